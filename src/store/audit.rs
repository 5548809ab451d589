//! Audit events: what happened to whom, written with the change itself.

use diesel::prelude::*;

use super::schema::audit_events;
use crate::{
    clock::Timestamp,
    domain::{SessionId, UserId, uuid_v7},
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// A user was created.
    UserRegistered,
    /// A session ended because its user logged out.
    LoggedOut,
    /// A session was ended by its user, from another session perhaps.
    SessionRevoked,
    /// A session was revoked because an old refresh token came back.
    RefreshTokenReused,
    /// A successor of the active signing key was asked for.
    SigningKeyRotated,
    /// Every signing key was revoked and replaced.
    SigningKeysRevoked,
    /// A user replaced the password, which ended all of the user's sessions.
    PasswordChanged,
    /// A user was barred.
    UserDisabled,
    /// A user was let in again.
    UserEnabled,
    /// All sessions of a user were ended, or all but the one that asked for it.
    UserSessionsRevoked,
    /// A session ended because its user logged in once more than there may be live sessions.
    SessionLimitReached,
    /// A user was given other roles.
    UserRolesChanged,
    /// The failed logins of a user were forgiven.
    LoginFailuresCleared,
}

impl AuditKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::UserRegistered => "user_registered",
            Self::LoggedOut => "logged_out",
            Self::SessionRevoked => "session_revoked",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::SigningKeyRotated => "signing_key_rotated",
            Self::SigningKeysRevoked => "signing_keys_revoked",
            Self::PasswordChanged => "password_changed",
            Self::UserDisabled => "user_disabled",
            Self::UserEnabled => "user_enabled",
            Self::UserSessionsRevoked => "user_sessions_revoked",
            Self::SessionLimitReached => "session_limit_reached",
            Self::UserRolesChanged => "user_roles_changed",
            Self::LoginFailuresCleared => "login_failures_cleared",
        }
    }
}

/// One entry of the audit trail: ids and where the request came from, no e-mail address and no name.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// What happened.
    pub kind: AuditKind,
    /// Whose access token allowed it; `None` when none was needed or an operator did it.
    pub actor_id: Option<UserId>,
    /// To whom.
    pub user_id: Option<UserId>,
    /// To which session.
    pub session_id: Option<SessionId>,
    /// Where the request came from, as text.
    pub client_ip: String,
    /// The request that did it.
    pub request_id: String,
    /// When.
    pub at: Timestamp,
}

#[derive(Insertable)]
#[diesel(table_name = audit_events)]
pub(super) struct AuditEventRow {
    id: String,
    kind: &'static str,
    actor_id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) session_id: Option<String>,
    client_ip: String,
    request_id: String,
    created_at: i64,
}

impl AuditEvent {
    /// The event, as one that befell this user.
    pub(super) fn to_row_for(&self, user: UserId) -> AuditEventRow {
        AuditEventRow {
            user_id: Some(user.to_string()),
            ..self.to_row()
        }
    }

    pub(super) fn to_row(&self) -> AuditEventRow {
        AuditEventRow {
            id: uuid_v7(self.at).to_string(),
            kind: self.kind.as_str(),
            actor_id: self.actor_id.map(|id| id.to_string()),
            user_id: self.user_id.map(|id| id.to_string()),
            session_id: self.session_id.map(|id| id.to_string()),
            client_ip: self.client_ip.clone(),
            request_id: self.request_id.clone(),
            created_at: self.at.micros(),
        }
    }
}
