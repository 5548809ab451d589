//! The plain types of the trade: no I/O, no protobuf, no SQL. What comes in through them has been checked.

mod email;
mod id;
mod outage;
mod password;
mod revocation;
mod session;
mod text;
mod user;
mod violation;

pub use email::Email;
pub(crate) use id::uuid_v7;
pub use id::{SessionId, TokenId, UserId};
pub use outage::{LONGEST_ALLOWANCE, Outage, allowance};
pub use password::Password;
pub use revocation::{PositionedRevocation, Revocation, RevokedSubject};
pub use session::{RefreshDecision, RefreshRefusal, Session};
pub use text::{DeviceLabel, DisplayName};
pub use user::{Role, Roles, User};
pub use violation::{FieldViolation, ViolationReason};
