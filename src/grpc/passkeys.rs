//! The RPCs of passkeys.

use tonic::Status;

/// The answer of an RPC that this version does not serve.
pub(super) fn not_served() -> Status {
    Status::unimplemented("Passkeys are not served by this version.")
}
