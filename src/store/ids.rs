//! Ids as they are stored: text that was written by this program, or the row is damaged.

use super::StoreError;
use crate::domain::{SessionId, UserId};

pub(super) fn parse_user_id(text: &str) -> Result<UserId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("user id {text:?}")))
}

pub(super) fn parse_session_id(text: &str) -> Result<SessionId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("session id {text:?}")))
}
