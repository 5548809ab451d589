//! The table of methods: who may call each one, how often, and what is logged, traced and counted.
//!
//! It is the only place where access is decided. A path that it does not name is refused before any
//! service sees the request, so a new RPC without a line here cannot be called.

use std::{ptr, sync::LazyLock};

use tracing::Level;

use crate::telemetry::{CallFamilies, CallMetrics};

/// Who may call one method, and how the layers treat it.
#[derive(Debug)]
pub(in crate::grpc) struct Method {
    /// The path of its requests: `/package.Service/Method`.
    pub(in crate::grpc) path: &'static str,
    /// Who may call it; enforced by `layers::AuthorizationLayer`.
    pub(in crate::grpc) access: Access,
    /// The rate limit that counts its calls.
    pub(in crate::grpc) limit: Option<Limit>,
    /// The level of its server span; `None`: calls are not traced.
    pub(super) span: Option<Level>,
    /// The level of its access line when a call succeeds.
    pub(super) success: Level,
    /// The level of its access line when a call fails.
    pub(super) failure: Level,
    /// Which side streams.
    pub(super) kind: Kind,
    /// Whether a call is answered from memory, without waiting for hashing or the database.
    pub(super) in_memory: bool,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) enum Access {
    /// Everybody.
    Open,
    /// Callers with a valid access token.
    Bearer,
    /// The same, or callers with an access token that is good for enrolling a second factor alone.
    Enrolling,
    /// Callers with a valid access token that holds at least one of these roles; or, without an access token, with a client
    /// certificate that has a name of `COUNTERSIGN_TLS_VERIFIERS`.
    AnyRoleOrVerifierCertificate(&'static [&'static str]),
    /// Callers with a valid access token that holds at least one of these roles, and the database says that the user still
    /// has one of them.
    AnyCurrentRole(&'static [&'static str]),
}

/// The rate limit that counts a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) enum Limit {
    /// Calls that test a guess: a password or a one-time token.
    Credential,
    /// Calls that present a token which cannot be guessed.
    Token,
}

/// Which side of a call streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One request, one response.
    Unary,
    /// Many requests, one response.
    ClientStream,
    /// One request, many responses.
    ServerStream,
    /// Both sides stream.
    BidiStream,
}

impl Kind {
    /// The value of the label `grpc_type`.
    const fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// The methods, the most called one first: the search is linear.
pub(super) static METHODS: [Method; 58] = [
    Method {
        limit: Some(Limit::Token),
        ..in_memory("/countersign.auth.v1.AuthService/ValidateToken")
    },
    Method {
        limit: Some(Limit::Token),
        ..in_memory("/envoy.service.auth.v3.Authorization/Check")
    },
    token("/countersign.auth.v1.AuthService/Refresh"),
    token("/countersign.auth.v1.AuthService/Logout"),
    token("/countersign.auth.v1.TokenService/IssueToken"),
    token("/countersign.auth.v1.TokenService/ExchangeToken"),
    credential("/countersign.auth.v1.AuthService/Login"),
    credential("/countersign.auth.v1.AuthService/CompleteLogin"),
    credential("/countersign.auth.v1.AuthService/BeginPasskeyLogin"),
    credential("/countersign.auth.v1.AuthService/FinishPasskeyLogin"),
    credential("/countersign.auth.v1.AuthService/Register"),
    in_memory("/countersign.auth.v1.VerifierService/GetJwks"),
    Method {
        access: Access::AnyRoleOrVerifierCertificate(&["verifier", "admin"]),
        kind: Kind::ServerStream,
        ..Method::open("/countersign.auth.v1.VerifierService/WatchRevocations")
    },
    account("/countersign.auth.v1.AccountService/GetCurrentUser"),
    Method {
        limit: Some(Limit::Credential),
        ..account("/countersign.auth.v1.AccountService/ChangePassword")
    },
    account("/countersign.auth.v1.AccountService/ListSessions"),
    account("/countersign.auth.v1.AccountService/RevokeSession"),
    account("/countersign.auth.v1.AccountService/RevokeAllSessions"),
    account("/countersign.auth.v1.AccountService/RequestEmailVerification"),
    Method {
        limit: Some(Limit::Credential),
        ..enrolling("/countersign.auth.v1.AccountService/Reauthenticate")
    },
    enrolling("/countersign.auth.v1.AccountService/ListFactors"),
    enrolling("/countersign.auth.v1.AccountService/BeginTotpEnrollment"),
    enrolling("/countersign.auth.v1.AccountService/ConfirmTotpEnrollment"),
    enrolling("/countersign.auth.v1.AccountService/BeginPasskeyRegistration"),
    enrolling("/countersign.auth.v1.AccountService/FinishPasskeyRegistration"),
    account("/countersign.auth.v1.AccountService/RemoveFactor"),
    account("/countersign.auth.v1.AccountService/RegenerateRecoveryCodes"),
    credential("/countersign.auth.v1.AccountService/VerifyEmail"),
    credential("/countersign.auth.v1.AccountService/RequestPasswordReset"),
    credential("/countersign.auth.v1.AccountService/ResetPassword"),
    admin("/countersign.auth.v1.AdminService/GetUser"),
    admin("/countersign.auth.v1.AdminService/ListUsers"),
    admin("/countersign.auth.v1.AdminService/InviteUser"),
    admin("/countersign.auth.v1.AdminService/DeleteUser"),
    admin("/countersign.auth.v1.AdminService/ListAuditEvents"),
    admin("/countersign.auth.v1.AdminService/RotateSigningKey"),
    admin("/countersign.auth.v1.AdminService/DisableUser"),
    admin("/countersign.auth.v1.AdminService/EnableUser"),
    admin("/countersign.auth.v1.AdminService/RevokeUserSessions"),
    admin("/countersign.auth.v1.AdminService/ClearLoginFailures"),
    admin("/countersign.auth.v1.AdminService/RemoveUserFactors"),
    admin("/countersign.auth.v1.AdminService/SetUserRoles"),
    Method {
        kind: Kind::ClientStream,
        ..admin("/countersign.auth.v1.AdminService/ImportUsers")
    },
    admin("/countersign.auth.v1.ServiceAccountService/CreateServiceAccount"),
    admin("/countersign.auth.v1.ServiceAccountService/GetServiceAccount"),
    admin("/countersign.auth.v1.ServiceAccountService/ListServiceAccounts"),
    admin("/countersign.auth.v1.ServiceAccountService/UpdateServiceAccount"),
    admin("/countersign.auth.v1.ServiceAccountService/DisableServiceAccount"),
    admin("/countersign.auth.v1.ServiceAccountService/EnableServiceAccount"),
    admin("/countersign.auth.v1.ServiceAccountService/DeleteServiceAccount"),
    admin("/countersign.auth.v1.ServiceAccountService/CreateServiceKey"),
    admin("/countersign.auth.v1.ServiceAccountService/ListServiceKeys"),
    admin("/countersign.auth.v1.ServiceAccountService/RevokeServiceKey"),
    health("/grpc.health.v1.Health/Check"),
    health("/grpc.health.v1.Health/List"),
    Method {
        kind: Kind::ServerStream,
        ..health("/grpc.health.v1.Health/Watch")
    },
    reflection("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    reflection("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

/// Represents all unknown paths in logs and metrics, because a path is input.
pub(super) static UNKNOWN: Method = Method::open("/unknown");

/// The method with exactly this path; `None`: there is none, and the call must be refused.
pub(super) fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

/// The methods of the service with that name.
pub(in crate::grpc) fn of_service(name: &str) -> impl Iterator<Item = &'static Method> {
    METHODS
        .iter()
        .filter(move |method| method.names().0 == name)
}

/// The served service that a path of an unknown method names, if any.
pub(super) fn service_of(path: &str) -> Option<&'static str> {
    let (service, _) = path.strip_prefix('/')?.split_once('/')?;
    METHODS
        .iter()
        .map(|method| method.names().0)
        .find(|known| *known == service)
}

/// The metrics of the calls of this process.
struct Calls {
    families: CallFamilies,
    /// Those of each method, in the order of the table, and of all unknown paths together.
    methods: Vec<CallMetrics>,
}

static CALLS: LazyLock<Calls> = LazyLock::new(|| {
    let families = CallFamilies::new();
    let methods = METHODS.iter().chain([&UNKNOWN]).map(|method| {
        let (service, name) = method.names();
        families.add(method.kind.label(), service, name)
    });
    Calls {
        methods: methods.collect(),
        families,
    }
});

/// The metrics of all calls, for `/metrics`.
pub fn call_metrics() -> CallFamilies {
    CALLS.families.clone()
}

impl Method {
    /// The metrics of its calls.
    pub(super) fn metrics(&'static self) -> &'static CallMetrics {
        let position = METHODS.iter().position(|method| ptr::eq(method, self));
        &CALLS.methods[position.unwrap_or(METHODS.len())]
    }

    /// `package.Service/Method`, or `unknown`.
    pub(super) fn full_name(&self) -> &'static str {
        &self.path[1..]
    }

    /// The value of OpenTelemetry's attribute `rpc.method`.
    pub(super) fn rpc_method(&self) -> &'static str {
        match self.path == UNKNOWN.path {
            true => "_OTHER",
            false => self.full_name(),
        }
    }

    /// `package.Service` and `Method`.
    pub(super) fn names(&self) -> (&'static str, &'static str) {
        let name = self.full_name();
        name.split_once('/').unwrap_or((name, name))
    }

    /// A unary method that everybody may call without a rate limit.
    const fn open(path: &'static str) -> Self {
        Self {
            path,
            access: Access::Open,
            limit: None,
            span: Some(Level::INFO),
            success: Level::INFO,
            failure: Level::INFO,
            kind: Kind::Unary,
            in_memory: false,
        }
    }
}

const fn credential(path: &'static str) -> Method {
    Method {
        limit: Some(Limit::Credential),
        ..Method::open(path)
    }
}

const fn token(path: &'static str) -> Method {
    Method {
        limit: Some(Limit::Token),
        ..Method::open(path)
    }
}

/// Called so often that successful calls are logged and traced at DEBUG only.
const fn in_memory(path: &'static str) -> Method {
    Method {
        span: Some(Level::DEBUG),
        success: Level::DEBUG,
        in_memory: true,
        ..Method::open(path)
    }
}

const fn account(path: &'static str) -> Method {
    Method {
        access: Access::Bearer,
        ..Method::open(path)
    }
}

const fn enrolling(path: &'static str) -> Method {
    Method {
        access: Access::Enrolling,
        ..Method::open(path)
    }
}

const fn admin(path: &'static str) -> Method {
    Method {
        access: Access::AnyCurrentRole(&["admin"]),
        ..Method::open(path)
    }
}

/// Probes come every few seconds and say nothing about users: no span, and no line above DEBUG.
const fn health(path: &'static str) -> Method {
    Method {
        span: None,
        success: Level::DEBUG,
        failure: Level::DEBUG,
        in_memory: true,
        ..Method::open(path)
    }
}

const fn reflection(path: &'static str) -> Method {
    Method {
        span: Some(Level::DEBUG),
        kind: Kind::BidiStream,
        in_memory: true,
        ..Method::open(path)
    }
}
