//! Audit events: what happened to whom, written with the change itself. (`log` reads them.)

use diesel::prelude::*;
use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    domain::{Roles, SessionId, UserId, uuid_v7},
    store::schema::audit_events,
};

/// Makes the enum of kinds and their names of one list.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $name:literal)*) => {
        /// What happened. Each kind has a JSON Schema in `docs/audit-schema/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuditKind {
            $($(#[$doc])* $variant,)*
        }

        impl AuditKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the database and in exports.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// A user registered.
    UserRegistered "user_registered"
    /// Somebody tried to register with an address that a user has. Only with `COUNTERSIGN_REGISTRATION=verified`.
    RegistrationRefused "registration_refused"
    /// An administrator created a user who has a password.
    UserCreated "user_created"
    /// An administrator created a user who gets a token by mail to choose a password.
    UserInvited "user_invited"
    /// A user was deleted, which revoked all tokens; of personal data the audit events alone are left.
    UserDeleted "user_deleted"
    /// A user logged in: a session was opened.
    LoggedIn "logged_in"
    /// Login was refused: a wrong password, an unknown address, or an account that may not log in.
    LoginFailed "login_failed"
    /// Login was refused without a look at the password, because of too many failures before.
    LoginThrottled "login_throttled"
    /// Within a session a wrong current password was given.
    PasswordCheckFailed "password_check_failed"
    /// Within a session a password was refused without a look, because of too many failures before.
    PasswordCheckThrottled "password_check_throttled"
    /// Refused attempts that were not written one by one, because there were too many.
    RefusalsDropped "refusals_dropped"
    /// A session ended because its user logged out.
    LoggedOut "logged_out"
    /// A user revoked one of the own sessions.
    SessionRevoked "session_revoked"
    /// A session was revoked because a refresh token was reused.
    RefreshTokenReused "refresh_token_reused"
    /// A signing key was created to succeed the active one.
    SigningKeyRotated "signing_key_rotated"
    /// Every signing key was revoked and replaced.
    SigningKeysRevoked "signing_keys_revoked"
    /// A user changed the password, which revoked all sessions.
    PasswordChanged "password_changed"
    /// A user was disabled.
    UserDisabled "user_disabled"
    /// A user was enabled.
    UserEnabled "user_enabled"
    /// All sessions of a user were revoked, or all but the current one.
    UserSessionsRevoked "user_sessions_revoked"
    /// A session ended because its user logged in once more than there may be live sessions.
    SessionLimitReached "session_limit_reached"
    /// The roles of a user changed, or the user was imported with a role that opens a service of Countersign.
    UserRolesChanged "user_roles_changed"
    /// The failed logins of a user were forgiven.
    LoginFailuresCleared "login_failures_cleared"
    /// A service account was created.
    ServiceAccountCreated "service_account_created"
    /// The name for people, the roles or the audiences of a service account changed.
    ServiceAccountUpdated "service_account_updated"
    /// A service account was disabled, which revoked its tokens.
    ServiceAccountDisabled "service_account_disabled"
    /// A service account was enabled.
    ServiceAccountEnabled "service_account_enabled"
    /// A service account was deleted with its keys, which revoked its tokens.
    ServiceAccountDeleted "service_account_deleted"
    /// A key of a service account was created.
    ServiceKeyCreated "service_key_created"
    /// A key of a service account was revoked with its tokens.
    ServiceKeyRevoked "service_key_revoked"
    /// A mail with a token that resets a password was sent.
    PasswordResetMailed "password_reset_mailed"
    /// A password was set by such a token, which revoked all sessions.
    PasswordReset "password_reset"
    /// An address was verified by a token from a mail.
    EmailVerified "email_verified"
    /// A second factor was added.
    FactorAdded "factor_added"
    /// A user removed a second factor, which revoked the other sessions.
    FactorRemoved "factor_removed"
    /// An administrator removed all second factors of a user, which revoked all sessions.
    FactorsRemoved "factors_removed"
    /// The recovery codes were replaced.
    RecoveryCodesReplaced "recovery_codes_replaced"
    /// A recovery code stood in for a factor.
    RecoveryCodeUsed "recovery_code_used"
    /// A user proved again who it is, inside a session.
    Reauthenticated "reauthenticated"
    /// A wrong second factor: at a login, or within a session.
    SecondFactorFailed "second_factor_failed"
    /// A batch of users of another system was imported; written once for each batch.
    UsersImported "users_imported"
}

impl AuditKind {
    /// The version of the kind's schema in which events are written. It rises when `details` change so that a reader of
    /// the version before would be wrong.
    pub const fn version(self) -> i32 {
        1
    }
}

/// What an event says besides who, where and when. Never personal data, never a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditDetails {
    /// Nothing.
    #[default]
    None,
    /// Of a login.
    Login {
        /// Whether no device token of an earlier login was presented.
        new_device: bool,
        /// Whether the password is known from a breach.
        breached_password: bool,
    },
    /// Of refused attempts that were alike: how many there were.
    Repeated(u64),
    /// Of a change of roles.
    Roles {
        /// The roles before.
        before: Roles,
        /// The roles after.
        after: Roles,
    },
}

impl AuditDetails {
    /// A JSON object.
    pub fn to_json(&self) -> Value {
        let names = |roles: &Roles| roles.names().map(str::to_owned).collect::<Vec<_>>();
        match self {
            Self::None => json!({}),
            Self::Login {
                new_device,
                breached_password: false,
            } => json!({ "new_device": new_device }),
            Self::Login {
                new_device,
                breached_password: true,
            } => json!({ "new_device": new_device, "breached_password": true }),
            Self::Repeated(count) => json!({ "count": count }),
            Self::Roles { before, after } => {
                json!({ "roles_before": names(before), "roles": names(after) })
            }
        }
    }

    fn to_stored(&self) -> String {
        match self {
            Self::None => String::new(),
            other => other.to_json().to_string(),
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
    /// What else there is to say.
    pub details: AuditDetails,
}

// `NULL` is written out, so that the statement is always the same and stays prepared.
#[derive(Clone, Insertable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false)]
pub(in crate::store) struct AuditEventRow {
    id: String,
    kind: &'static str,
    actor_id: Option<String>,
    pub(in crate::store) user_id: Option<String>,
    pub(in crate::store) session_id: Option<String>,
    client_ip: String,
    request_id: String,
    created_at: i64,
    version: i32,
    pub(in crate::store) details: String,
}

impl AuditEvent {
    /// The row of an event that concerns this user.
    pub(in crate::store) fn to_row_for(&self, user: UserId) -> AuditEventRow {
        AuditEventRow {
            user_id: Some(user.to_string()),
            ..self.to_row()
        }
    }

    pub(in crate::store) fn to_row(&self) -> AuditEventRow {
        AuditEventRow {
            id: uuid_v7(self.at).to_string(),
            kind: self.kind.as_str(),
            actor_id: self.actor_id.map(|id| id.to_string()),
            user_id: self.user_id.map(|id| id.to_string()),
            session_id: self.session_id.map(|id| id.to_string()),
            client_ip: self.client_ip.clone(),
            request_id: self.request_id.clone(),
            created_at: self.at.micros(),
            version: self.kind.version(),
            details: self.details.to_stored(),
        }
    }
}

impl AuditEventRow {
    /// The same row with other details.
    pub(in crate::store) fn with(self, details: &AuditDetails) -> Self {
        Self {
            details: details.to_stored(),
            ..self
        }
    }
}
