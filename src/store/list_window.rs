//! Pages of filtered lists. A filter that no index serves looks at a bounded number of rows for each page, so that a
//! filter that hardly a row meets costs no more than one that all meet (AIP-158 allows short pages).

use crate::store::StoreError;

/// How many rows a page looks at at most, where no index finds those that are wanted.
pub(super) const WINDOW: i64 = 20_000;

/// The id of the last row that a page looks at, of those in `$in_order`; `None` where it looks at all.
macro_rules! last_in_window {
    ($conn:expr, $in_order:expr, $id:expr, $is_bounded:expr) => {
        match $is_bounded {
            true => $in_order
                .select($id)
                .offset($crate::store::list_window::WINDOW - 1)
                .limit(1)
                .get_result::<String>($conn)
                .await
                .optional()?,
            false => None,
        }
    };
}

pub(super) use last_in_window;

/// A page of a list.
#[derive(Clone, Debug)]
pub struct ListPage<T, Id> {
    /// The entries.
    pub items: Vec<T>,
    /// The next page begins after this entry. `None` on the last page.
    pub next: Option<Id>,
}

impl<T, Id> ListPage<T, Id> {
    /// Of up to `size + 1` rows found, and the last row that was looked at, if there are more behind it.
    pub(super) fn of(
        mut items: Vec<T>,
        size: u16,
        bound: Option<String>,
        id: impl Fn(&T) -> &str,
        parse: impl Fn(&str) -> Result<Id, StoreError>,
    ) -> Result<Self, StoreError> {
        let has_more = items.len() > usize::from(size);
        items.truncate(size.into());
        let next = match has_more {
            true => items.last().map(|last| id(last).to_owned()),
            false => bound,
        };
        let next = next.as_deref().map(parse).transpose()?;
        Ok(Self { items, next })
    }
}
