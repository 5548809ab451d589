//! Every method this server answers, who may call it, how the layers treat it, and what is counted of
//! it. A new RPC gets a line here.

use crate::telemetry::{CallMetrics, CallSeries};

/// Who may call one method, and how the layers treat it.
#[derive(Debug)]
pub(in crate::grpc) struct Method {
    path: &'static str,
    /// Who may call it; enforced by `bearer::Guarded`.
    pub(in crate::grpc) access: Access,
    /// The rate limiter that counts its calls.
    pub(super) limit: Option<Limit>,
    /// Whether its span is worth recording at INFO.
    pub(super) span: Loudness,
    /// Whether its access line is worth writing at INFO when the call succeeds.
    pub(super) success: Loudness,
    /// The same when the call fails.
    pub(super) failure: Loudness,
    /// Who streams, as `grpc_type` says it.
    grpc_type: &'static str,
    /// What is counted of its calls. It lies here, so that a call that knows its method need not look
    /// anything up; counters belong to the process, like the process's own.
    pub(super) metrics: CallMetrics,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) enum Access {
    /// Everybody.
    Open,
    /// Who presents a good access token.
    Bearer,
    /// Who presents an access token that holds one of these roles.
    AnyRole(&'static [&'static str]),
    /// The same, and the user's row in the database holds one of them at this moment.
    AnyCurrentRole(&'static [&'static str]),
}

/// The rate limiter that counts a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Calls in which something secret can be guessed.
    Credential,
    /// Calls that present a token nobody can guess.
    Token,
}

/// The level at which something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loudness {
    /// DEBUG: off unless somebody looks for it.
    Debug,
    /// INFO: on unless somebody turns it off.
    Info,
}

/// The methods, the most called one first: the search is linear.
static METHODS: [Method; 22] = [
    Method {
        limit: Some(Limit::Token),
        span: Loudness::Debug,
        success: Loudness::Debug,
        ..Method::plain("/countersign.auth.v1.AuthService/ValidateToken")
    },
    token("/countersign.auth.v1.AuthService/Refresh"),
    token("/countersign.auth.v1.AuthService/Logout"),
    credential("/countersign.auth.v1.AuthService/Login"),
    credential("/countersign.auth.v1.AuthService/Register"),
    Method {
        span: Loudness::Debug,
        success: Loudness::Debug,
        ..Method::plain("/countersign.auth.v1.VerifierService/GetJwks")
    },
    Method {
        access: Access::AnyRole(&["verifier", "admin"]),
        grpc_type: SERVER_STREAM,
        ..Method::plain("/countersign.auth.v1.VerifierService/WatchRevocations")
    },
    account("/countersign.auth.v1.AccountService/GetCurrentUser"),
    Method {
        limit: Some(Limit::Credential),
        ..account("/countersign.auth.v1.AccountService/ChangePassword")
    },
    account("/countersign.auth.v1.AccountService/ListSessions"),
    account("/countersign.auth.v1.AccountService/RevokeSession"),
    account("/countersign.auth.v1.AccountService/RevokeAllSessions"),
    admin("/countersign.auth.v1.AdminService/RotateSigningKey"),
    admin("/countersign.auth.v1.AdminService/DisableUser"),
    admin("/countersign.auth.v1.AdminService/EnableUser"),
    admin("/countersign.auth.v1.AdminService/RevokeUserSessions"),
    admin("/countersign.auth.v1.AdminService/ClearLoginFailures"),
    admin("/countersign.auth.v1.AdminService/SetUserRoles"),
    probe("/grpc.health.v1.Health/Check"),
    Method {
        grpc_type: SERVER_STREAM,
        ..probe("/grpc.health.v1.Health/Watch")
    },
    reflection("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    reflection("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

/// Stands for every path that is not ours: what such a path says goes into no log.
static UNKNOWN: Method = Method::plain("/unknown");

const UNARY: &str = "unary";
const SERVER_STREAM: &str = "server_stream";
const BIDI_STREAM: &str = "bidi_stream";

/// What is counted of the calls to each method; those to strange paths are one.
pub(super) fn call_series() -> impl Iterator<Item = CallSeries> {
    METHODS.iter().chain([&UNKNOWN]).map(|method| {
        let (service, name) = method.names();
        CallSeries {
            grpc_type: method.grpc_type,
            service,
            method: name,
            metrics: &method.metrics,
        }
    })
}

/// The method with that path.
pub(in crate::grpc) fn find(path: &str) -> &'static Method {
    METHODS
        .iter()
        .find(|method| method.path == path)
        .unwrap_or(&UNKNOWN)
}

impl Method {
    /// `package.Service/Method`, or `unknown`.
    pub(super) fn full_name(&self) -> &'static str {
        &self.path[1..]
    }

    /// `package.Service` and `Method`.
    pub(super) fn names(&self) -> (&'static str, &'static str) {
        let name = self.full_name();
        name.split_once('/').unwrap_or((name, name))
    }

    const fn plain(path: &'static str) -> Self {
        Self {
            path,
            access: Access::Open,
            limit: None,
            span: Loudness::Info,
            success: Loudness::Info,
            failure: Loudness::Info,
            grpc_type: UNARY,
            metrics: CallMetrics::new(),
        }
    }
}

const fn credential(path: &'static str) -> Method {
    Method {
        limit: Some(Limit::Credential),
        ..Method::plain(path)
    }
}

const fn token(path: &'static str) -> Method {
    Method {
        limit: Some(Limit::Token),
        ..Method::plain(path)
    }
}

const fn account(path: &'static str) -> Method {
    Method {
        access: Access::Bearer,
        ..Method::plain(path)
    }
}

const fn admin(path: &'static str) -> Method {
    Method {
        access: Access::AnyCurrentRole(&["admin"]),
        ..Method::plain(path)
    }
}

const fn probe(path: &'static str) -> Method {
    Method {
        span: Loudness::Debug,
        success: Loudness::Debug,
        failure: Loudness::Debug,
        ..Method::plain(path)
    }
}

const fn reflection(path: &'static str) -> Method {
    Method {
        span: Loudness::Debug,
        grpc_type: BIDI_STREAM,
        ..Method::plain(path)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_of_the_protos_is_listed_once() {
        let files = prost_types::FileDescriptorSet::decode(crate::grpc::DESCRIPTORS).unwrap();
        let mut seen = 0;
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let known: Vec<_> = METHODS.iter().filter(|known| known.path == path).collect();
                    assert_eq!(known.len(), 1, "{path} must stand in METHODS once");
                    let grpc_type = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => UNARY,
                        (true, false) => "client_stream",
                        (false, true) => SERVER_STREAM,
                        (true, true) => BIDI_STREAM,
                    };
                    assert_eq!(known[0].grpc_type, grpc_type, "{path}");
                    seen += 1;
                }
            }
        }
        assert!(seen >= 5);
    }

    #[test]
    fn who_may_call_is_as_the_contract_says() {
        for method in &METHODS {
            let (service, name) = method.names();
            let expected = match (service, name) {
                ("countersign.auth.v1.AccountService", _) => Access::Bearer,
                ("countersign.auth.v1.AdminService", _) => Access::AnyCurrentRole(&["admin"]),
                (_, "WatchRevocations") => Access::AnyRole(&["verifier", "admin"]),
                _ => Access::Open,
            };
            assert_eq!(method.access, expected, "{}", method.full_name());
        }
    }

    #[test]
    fn whatever_can_be_guessed_at_is_limited() {
        for method in &METHODS {
            let (service, name) = method.names();
            let expected = match (service, name) {
                (_, "Register" | "Login" | "ChangePassword") => Some(Limit::Credential),
                (_, "Refresh" | "Logout" | "ValidateToken") => Some(Limit::Token),
                _ => None,
            };
            assert_eq!(method.limit, expected, "{}", method.full_name());
        }
    }

    #[test]
    fn a_strange_path_is_unknown_and_leaves_no_trace() {
        for path in [
            "",
            "/",
            "/countersign.auth.v1.AuthService/login",
            "/a@b.example/x",
        ] {
            assert_eq!(find(path).full_name(), "unknown");
            assert_eq!(find(path).names(), ("unknown", "unknown"));
        }
    }
}
