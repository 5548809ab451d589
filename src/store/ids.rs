//! Ids as they are stored: text that was written by this program, or the row is damaged.

use crate::{
    domain::{AuditEventId, FactorId, ServiceAccountId, ServiceKeyId, SessionId, UserId},
    store::StoreError,
};

pub(super) fn parse_user_id(text: &str) -> Result<UserId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("user id {text:?}")))
}

pub(super) fn parse_audit_event_id(text: &str) -> Result<AuditEventId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("audit event id {text:?}")))
}

pub(super) fn parse_session_id(text: &str) -> Result<SessionId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("session id {text:?}")))
}

pub(super) fn parse_service_account_id(text: &str) -> Result<ServiceAccountId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("service account id {text:?}")))
}

pub(super) fn parse_service_key_id(text: &str) -> Result<ServiceKeyId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("service key id {text:?}")))
}

pub(super) fn parse_factor_id(text: &str) -> Result<FactorId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("factor id {text:?}")))
}
