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
    /// A user revoked one of the own sessions.
    SessionRevoked,
    /// A session was revoked because a refresh token was reused.
    RefreshTokenReused,
    /// A signing key was created to succeed the active one.
    SigningKeyRotated,
    /// Every signing key was revoked and replaced.
    SigningKeysRevoked,
    /// A user changed the password, which revoked all sessions.
    PasswordChanged,
    /// A user was disabled.
    UserDisabled,
    /// A user was enabled.
    UserEnabled,
    /// All sessions of a user were revoked, or all but the current one.
    UserSessionsRevoked,
    /// A session ended because its user logged in once more than there may be live sessions.
    SessionLimitReached,
    /// The roles of a user changed.
    UserRolesChanged,
    /// The failed logins of a user were forgiven.
    LoginFailuresCleared,
    /// A service account was created.
    ServiceAccountCreated,
    /// The name for people, the roles or the audiences of a service account changed.
    ServiceAccountUpdated,
    /// A service account was disabled, which revoked its tokens.
    ServiceAccountDisabled,
    /// A service account was enabled.
    ServiceAccountEnabled,
    /// A service account was deleted with its keys, which revoked its tokens.
    ServiceAccountDeleted,
    /// A key of a service account was created.
    ServiceKeyCreated,
    /// A key of a service account was revoked with its tokens.
    ServiceKeyRevoked,
    /// A mail with a token that resets a password was sent.
    PasswordResetMailed,
    /// A password was reset by such a token, which revoked all sessions.
    PasswordReset,
    /// An address was verified by a token from a mail.
    EmailVerified,
    /// A second factor was added.
    FactorAdded,
    /// A user removed a second factor, which revoked the other sessions.
    FactorRemoved,
    /// An administrator removed all second factors of a user, which revoked all sessions.
    FactorsRemoved,
    /// The recovery codes were replaced.
    RecoveryCodesReplaced,
    /// A recovery code stood in for a factor.
    RecoveryCodeUsed,
    /// A user proved again who it is, inside a session.
    Reauthenticated,
    /// A batch of users of another system was imported; written once for each batch.
    UsersImported,
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
            Self::ServiceAccountCreated => "service_account_created",
            Self::ServiceAccountUpdated => "service_account_updated",
            Self::ServiceAccountDisabled => "service_account_disabled",
            Self::ServiceAccountEnabled => "service_account_enabled",
            Self::ServiceAccountDeleted => "service_account_deleted",
            Self::ServiceKeyCreated => "service_key_created",
            Self::ServiceKeyRevoked => "service_key_revoked",
            Self::PasswordResetMailed => "password_reset_mailed",
            Self::PasswordReset => "password_reset",
            Self::EmailVerified => "email_verified",
            Self::FactorAdded => "factor_added",
            Self::FactorRemoved => "factor_removed",
            Self::FactorsRemoved => "factors_removed",
            Self::RecoveryCodesReplaced => "recovery_codes_replaced",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::Reauthenticated => "reauthenticated",
            Self::UsersImported => "users_imported",
        }
    }
}

/// One entry of the audit trail: ids and where the request came from, no e-mail address and no name.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// What happened.
    pub kind: AuditKind,
    /// The user whose access token authorised it; `None` when none was needed or an operator did it.
    pub actor_id: Option<UserId>,
    /// The user or service account concerned: what the claim `sub` of its tokens names.
    pub user_id: Option<UserId>,
    /// The session or service key concerned: what the claim `sid` of its tokens names.
    pub session_id: Option<SessionId>,
    /// Where the request came from, as text.
    pub client_ip: String,
    /// The id of the request.
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
    /// The row of an event that concerns this user.
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
