//! The edge: the only floor that knows protobuf, tonic and HTTP. A request passes `layers`, is
//! turned into domain types, and every failure leaves through `status`.

mod account_service;
mod admin_service;
mod auth_service;
mod bearer;
mod bulkhead;
mod convert;
mod edge;
mod fast_lane;
pub mod health;
pub mod layers;
mod paging;
mod reason;
mod status;
mod user_rate;
mod verifier_service;

pub use account_service::AccountApi;
pub use admin_service::AdminApi;
pub use auth_service::AuthApi;
pub use bearer::Guarded;
pub use bulkhead::Bulkhead;
pub use fast_lane::FastLane;
pub use reason::Reason;
pub use status::{DOMAIN, Detail, error_status, status};
pub use user_rate::UserRateLimit;
pub use verifier_service::VerifierApi;

/// The generated messages, clients and servers of `countersign.auth.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::nursery,
    clippy::pedantic,
    reason = "generated code; the comments are in the .proto files"
)]
pub mod pb {
    tonic::include_proto!("countersign.auth.v1");
}

/// The compiled descriptors of everything under `proto/`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
