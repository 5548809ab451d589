//! The gRPC API: the only layer, besides `server`, that knows protobuf and tonic.
//!
//! A request passes `layers`, then the layers that `routes` puts around its method. The service turns
//! its message into domain types and calls a use case of `auth`. Failures become statuses in `status`,
//! and breaches of the protocol in `protocol_error`.

mod account_service;
mod admin_service;
mod admin_users;
mod auth_service;
mod bulkhead;
mod convert;
mod demands;
mod ext_authz;
mod ext_authz_answer;
mod ext_authz_challenge;
mod ext_authz_demands;
mod factors;
mod fast_path;
mod fast_path_bodies;
mod forwarded_certificate;
pub mod health;
mod import_users;
pub mod layers;
mod paging;
mod passkeys;
mod protocol_error;
mod reason;
mod request_body;
mod request_id;
mod request_info;
mod request_memory;
mod routes;
mod service_account_service;
mod services;
mod status;
mod token_service;
mod user_rate;
mod verifier_service;
mod web;

pub use account_service::AccountApi;
pub use admin_service::AdminApi;
pub use auth_service::AuthApi;
pub use bulkhead::Bulkhead;
pub use ext_authz::AuthorizationApi;
pub use fast_path::FastPath;
pub use reason::Reason;
pub use request_body::count_request;
pub use request_id::RequestId;
pub use request_memory::{PeerMemory, RequestMemory};
pub use routes::{RouteSettings, Routes};
pub use service_account_service::ServiceAccountApi;
pub use services::{ServiceSettings, services};
use status::PendingStatus;
pub use status::{DOMAIN, Detail, error_status, status};
pub use token_service::TokenApi;
pub use user_rate::UserRateLimit;
pub use verifier_service::VerifierApi;
pub use web::{WebLayer, WebService};

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

/// The same for `grpc.health.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::nursery,
    clippy::pedantic,
    reason = "generated code; the comments are in the .proto files"
)]
pub mod health_pb {
    tonic::include_proto!("grpc.health.v1");
}

/// The same for the part of Envoy's API that ext_authz needs; its packages refer to each other by these paths.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::nursery,
    clippy::pedantic,
    reason = "generated code; the comments are in the .proto files"
)]
pub mod envoy {
    pub mod service {
        pub mod auth {
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
    }
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}
pub use envoy::{
    config::core::v3 as ext_authz_core_pb, service::auth::v3 as ext_authz_pb,
    r#type::v3 as ext_authz_type_pb,
};

/// The compiled descriptors of everything under `proto/`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
