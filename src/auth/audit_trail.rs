//! Reading the audit trail: pages for AdminService, and the export, which misses no event.

use super::{Auth, AuthError};
use crate::{
    domain::{AuditCondition, AuditEventId},
    revocation::Cursor,
    store::{ListPage, Store, StoreError, StoredAuditEvent},
    tokens::DerivedKeys,
};

impl Auth {
    /// The keys of page tokens.
    pub fn page_tokens(&self) -> &DerivedKeys {
        &self.parts.derived_keys
    }

    /// Audit events that meet all conditions, the newest first: `size` of them at most, beginning after the event `after`. A
    /// page may be short, or even empty, and have a next one.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn list_audit_events(
        &self,
        after: Option<AuditEventId>,
        conditions: &[AuditCondition],
        size: u16,
    ) -> Result<ListPage<StoredAuditEvent, AuditEventId>, AuthError> {
        let store = &self.parts.store;
        Ok(store.list_audit_events(after, conditions, size).await?)
    }
}

/// Why an export cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The cursor is not one of an export.
    #[error("the cursor is not one that an export printed")]
    NoCursor,
    /// The order that the cursor is about is not the database's any more.
    #[error(
        "the database was restored or promoted since the cursor was printed or the export began, and events may have another place: export again without a cursor, and drop the events that are known by their id"
    )]
    OtherHistory,
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the text of a cursor begins with.
const PREFIX: &str = "csa_";

/// An export under way: events in the order in which they were given positions.
pub struct AuditExport {
    store: Store,
    cursor: Cursor,
}

/// An event of an export.
pub struct ExportedEvent {
    /// The event.
    pub event: StoredAuditEvent,
    /// An export that begins with this goes on behind the event.
    pub cursor: String,
}

impl AuditExport {
    /// Begins behind the event of a cursor, or with the oldest event.
    ///
    /// # Errors
    /// The text is no cursor, or one of another history of the database; the database fails.
    pub async fn begin(store: Store, cursor: Option<&str>) -> Result<Self, ExportError> {
        let epoch = store.feed_state().await?.epoch;
        let cursor = match cursor {
            None => Cursor::new(epoch, 0),
            Some(text) => {
                let encoded = text.strip_prefix(PREFIX).filter(|text| !text.is_empty());
                let encoded = encoded.ok_or(ExportError::NoCursor)?;
                let cursor = Cursor::parse("cursor", encoded).map_err(|_| ExportError::NoCursor)?;
                if cursor.epoch() != epoch {
                    return Err(ExportError::OtherHistory);
                }
                cursor
            }
        };
        Ok(Self { store, cursor })
    }

    /// The next events; none when all that were committed before the call have been returned.
    ///
    /// # Errors
    /// The database was restored or promoted since the export began. The database fails; then the same call may be made again.
    pub async fn next_events(&mut self) -> Result<Vec<ExportedEvent>, ExportError> {
        let mut events;
        loop {
            let is_more = self.store.position_audit_events().await?;
            events = self
                .store
                .audit_events_after(self.cursor.position())
                .await?;
            // A position that was just given lies behind the cursor, unless retention has deleted the event since.
            if !events.is_empty() || !is_more {
                break;
            }
        }
        let epoch = self.cursor.epoch();
        // After the reads: what was read before is of the same history then. Without events as well: a database that was
        // restored may give the next ones positions that lie before the cursor.
        if self.store.feed_state().await?.epoch != epoch {
            return Err(ExportError::OtherHistory);
        }
        if let Some((position, _)) = events.last() {
            self.cursor = Cursor::new(epoch, *position);
        }
        let exported = events.into_iter().map(|(position, event)| ExportedEvent {
            event,
            cursor: format!("{PREFIX}{}", Cursor::new(epoch, position)),
        });
        Ok(exported.collect())
    }
}
