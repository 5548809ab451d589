//! The result of a use case that revokes: its value, and the position of the revocation.

use crate::domain::PositionedRevocation;

/// The result of a use case that revokes, and what its cursor is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked<T> {
    /// The result.
    pub outcome: T,
    /// The greatest position among the revocations that were written; `None` when none was, because others had written
    /// them before.
    pub(super) position: Option<i64>,
}

impl<T> Revoked<T> {
    /// `outcome` with what was written, or what this replica's index alone was told.
    pub(super) fn new(outcome: T, revocations: &[PositionedRevocation]) -> Self {
        let position = revocations.iter().map(|one| one.position).max();
        Self {
            outcome,
            // 0 is not known.
            position: position.filter(|position| *position > 0),
        }
    }
}
