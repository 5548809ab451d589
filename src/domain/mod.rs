//! The types and rules of the service itself: checked values and pure functions, without I/O, protobuf or SQL.

mod email;
mod email_key;
mod factor;
mod filter;
mod id;
mod list_conditions;
mod mail;
mod outage;
mod password;
mod revocation;
mod service_account;
mod session;
mod session_claims;
mod text;
mod throttle;
mod user;
mod violation;

pub use email::Email;
pub use factor::{Factor, FactorKind, FactorKinds};
pub use id::{
    AuditEventId, ChallengeId, DeviceId, FactorId, ServiceAccountId, ServiceKeyId, SessionId,
    TokenId, UserId,
};
pub(crate) use id::{first_uuid_of, uuid_v7};
pub use list_conditions::{
    AuditCondition, TextBound, TimeBound, UserCondition, audit_conditions, user_conditions,
};
pub use mail::{MailKind, NewMail, Recipient};
pub use outage::{LONGEST_ALLOWANCE, Outage, allowance};
pub use password::Password;
pub use revocation::{FeedEpoch, PositionedRevocation, Revocation, RevokedSubject};
pub use service_account::{ServiceAccount, ServiceAccountChange, ServiceAccountName, ServiceKey};
pub use session::{RefreshDecision, RefreshRefusal, Session};
pub use session_claims::SessionClaims;
pub use text::{DeviceLabel, DisplayName};
pub use throttle::{Admission, FailureCounter, MAX_DELAY, TRIAL_LEASE};
pub use user::{Role, Roles, User};
pub use violation::{FieldViolation, ViolationReason};
