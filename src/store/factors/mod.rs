//! Second factors, passkeys and recovery codes.

pub(in crate::store) mod factor_changes;
pub(in crate::store) mod passkeys;
pub(in crate::store) mod proofs;
pub(in crate::store) mod records;
pub(in crate::store) mod recovery_codes;
pub(in crate::store) mod totp_factors;
