//! Tests of the table of methods: it names every method that is served, and says what the contract says.

use std::collections::HashMap;

use prost::Message as _;

use super::methods::{Access, Kind, Limit, METHODS, find, service_of};

/// The paths of all services that this server offers, with their kinds.
fn served() -> HashMap<String, Kind> {
    let sets = [
        crate::grpc::DESCRIPTORS,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = HashMap::new();
    for set in sets {
        let files = prost_types::FileDescriptorSet::decode(set).unwrap().file;
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Kind::Unary,
                        (false, true) => Kind::ServerStream,
                        (true, true) => Kind::BidiStream,
                        (true, false) => Kind::ClientStream,
                    };
                    paths.insert(path, kind);
                }
            }
        }
    }
    paths
}

#[test]
fn the_table_names_every_method_of_every_served_service_once_and_no_other() {
    let served = served();
    for (path, kind) in &served {
        let named: Vec<_> = METHODS.iter().filter(|known| known.path == path).collect();
        assert_eq!(named.len(), 1, "{path} must be in METHODS once");
        assert_eq!(named[0].kind, *kind, "{path}");
    }
    for method in &METHODS {
        assert!(served.contains_key(method.path), "{}", method.path);
    }
    assert_eq!(served.len(), METHODS.len());
}

#[test]
fn access_is_as_the_contract_says() {
    for method in &METHODS {
        let (service, name) = method.names();
        let expected = match (service, name) {
            (_, "VerifyEmail" | "RequestPasswordReset" | "ResetPassword") => Access::Open,
            (
                _,
                "Reauthenticate"
                | "ListFactors"
                | "BeginTotpEnrollment"
                | "ConfirmTotpEnrollment"
                | "BeginPasskeyRegistration"
                | "FinishPasskeyRegistration",
            ) => Access::Enrolling,
            ("countersign.auth.v1.AccountService", _) => Access::Bearer,
            (
                "countersign.auth.v1.AdminService" | "countersign.auth.v1.ServiceAccountService",
                _,
            ) => Access::AnyCurrentRole(&["admin"]),
            (_, "WatchRevocations") => Access::AnyRoleOrVerifierCertificate(&["verifier", "admin"]),
            _ => Access::Open,
        };
        assert_eq!(method.access, expected, "{}", method.full_name());
    }
}

#[test]
fn calls_that_test_a_guess_count_against_the_credential_limit() {
    for method in &METHODS {
        let (service, name) = method.names();
        let expected = match (service, name) {
            (
                _,
                "Register"
                | "Login"
                | "CompleteLogin"
                | "BeginPasskeyLogin"
                | "FinishPasskeyLogin"
                | "Reauthenticate"
                | "ChangePassword"
                | "VerifyEmail"
                | "RequestPasswordReset"
                | "ResetPassword",
            ) => Some(Limit::Credential),
            (_, "Refresh" | "Logout" | "ValidateToken" | "IssueToken" | "ExchangeToken")
            | ("envoy.service.auth.v3.Authorization", _) => Some(Limit::Token),
            _ => None,
        };
        assert_eq!(method.limit, expected, "{}", method.full_name());
    }
}

#[test]
fn health_checks_are_not_traced() {
    for method in &METHODS {
        let is_health = method.names().0 == "grpc.health.v1.Health";
        assert_eq!(method.span.is_none(), is_health, "{}", method.full_name());
    }
}

#[test]
fn only_the_exact_path_is_found() {
    let disable = "/countersign.auth.v1.AdminService/DisableUser";
    assert_eq!(find(disable).unwrap().full_name(), &disable[1..]);
    for path in [
        "",
        "/",
        "//",
        "/countersign.auth.v1.AdminService/disableuser",
        "/countersign.auth.v1.AdminService/DisableUser/",
        "/countersign.auth.v1.AdminService//DisableUser",
        "//countersign.auth.v1.AdminService/DisableUser",
        "/countersign.auth.v1.AdminService/Disable%55ser",
        "/countersign.auth.v1.AdminService/../AdminService/DisableUser",
        "/countersign.auth.v1.adminservice/DisableUser",
        "countersign.auth.v1.AdminService/DisableUser",
        "/a@b.example/x",
    ] {
        assert!(find(path).is_none(), "{path}");
    }
}

#[test]
fn an_unknown_method_is_distinguished_from_an_unknown_service() {
    let service = "countersign.auth.v1.AdminService";
    assert_eq!(service_of(&format!("/{service}/Nonsense")), Some(service));
    assert_eq!(service_of(&format!("/{service}/")), Some(service));
    for path in ["", "/", "/who.is/ada", "//", &format!("/{service}")] {
        assert_eq!(service_of(path), None, "{path}");
    }
}
