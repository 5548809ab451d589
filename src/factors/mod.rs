//! Second factors: authenticator apps, recovery codes, and the token of an enrollment. Pure rules, but for `rewrap`, which
//! reads and writes the database.

mod enrollment;
pub mod passkeys;
mod recovery_codes;
mod rewrap;
mod totp;

pub use enrollment::{ENROLLMENT_TTL, enrollment_token, parse_enrollment_token};
pub use recovery_codes::{COUNT as RECOVERY_CODES, RecoveryCode};
pub use rewrap::{RewrapError, reseal_totp_secrets};
pub use totp::{TotpCode, TotpSecret, otpauth_uri};
