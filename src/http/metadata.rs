//! Authorization server metadata (RFC 8414): resource servers find the keys from the issuer alone.

use std::net::SocketAddr;

use http::Uri;
use serde::Serialize;

use super::oauth::{INTROSPECTION_PATH, TOKEN_EXCHANGE, TOKEN_PATH};

pub(super) const JWKS_PATH: &str = "/.well-known/jwks.json";
pub(super) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";

/// What assertions may be signed with.
const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"];

/// How clients may prove themselves, those first that we like best: some clients take the first that they know.
const AUTH_METHODS: [&str; 3] = [
    "private_key_jwt",
    "client_secret_basic",
    "client_secret_post",
];

/// Authorization server metadata (RFC 8414 section 2).
#[derive(Debug, Serialize)]
pub(super) struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    token_endpoint: String,
    token_endpoint_auth_methods_supported: [&'static str; 3],
    /// With both names of Ed25519 (RFC 9864). Which of them an issuer may use is pinned for each.
    token_endpoint_auth_signing_alg_values_supported: [&'static str; 5],
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'static str; 4],
    introspection_endpoint_auth_signing_alg_values_supported: [&'static str; 5],
    /// REQUIRED, and we support none. Section 3.2 says that empty lists are left out, but strict readers look for the
    /// required member first.
    response_types_supported: [&'static str; 0],
    /// If it was left out, that would mean the authorization code and implicit grants.
    grant_types_supported: [&'static str; 2],
}

impl<'a> Metadata<'a> {
    pub(super) fn new(issuer: &'a str, grpc_port: SocketAddr, http_port: SocketAddr) -> Self {
        let uri = |path| uri(issuer, path, grpc_port, http_port);
        Self {
            issuer,
            jwks_uri: uri(JWKS_PATH),
            token_endpoint: uri(TOKEN_PATH),
            token_endpoint_auth_methods_supported: AUTH_METHODS,
            token_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
            introspection_endpoint: uri(INTROSPECTION_PATH),
            introspection_endpoint_auth_methods_supported: [
                AUTH_METHODS[0],
                AUTH_METHODS[1],
                AUTH_METHODS[2],
                "Bearer",
            ],
            introspection_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
            response_types_supported: [],
            grant_types_supported: ["client_credentials", TOKEN_EXCHANGE],
        }
    }
}

/// The paths of the JWKS and of the metadata: at the root and, for an issuer with a path, where clients look for that
/// issuer. RFC 8414 section 3.1 puts the well-known part before the issuer's path; the JWKS is where `jwks_uri` says.
pub(super) fn paths(issuer: &str) -> (Vec<String>, Vec<String>) {
    let (mut jwks, mut metadata) = (vec![JWKS_PATH.to_owned()], vec![METADATA_PATH.to_owned()]);
    if let Some(path) = issuer_path(issuer) {
        jwks.push(format!("{path}{JWKS_PATH}"));
        metadata.push(format!("{METADATA_PATH}{path}"));
    }
    (jwks, metadata)
}

/// The issuer's path without a final slash; `None` when there is none, or when it has characters that the router would
/// interpret.
pub(super) fn issuer_path(issuer: &str) -> Option<String> {
    let issuer: Uri = issuer.parse().ok()?;
    let path = issuer.path().trim_end_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    (!path.is_empty() && path.bytes().all(plain)).then(|| path.to_owned())
}

/// Below the issuer, as resource servers expect it. The default issuer in development is the address of the gRPC port,
/// which serves no documents; then the URI has the HTTP port of the same host.
fn uri(issuer: &str, path: &str, grpc_port: SocketAddr, http_port: SocketAddr) -> String {
    let base = issuer.trim_end_matches('/');
    let Some(base_path) = path_at_our_grpc_port(base, grpc_port) else {
        return format!("{base}{path}");
    };
    let host = base.parse::<Uri>().ok();
    let host = host.as_ref().and_then(Uri::host).unwrap_or("localhost");
    format!("http://{host}:{}{base_path}{path}", http_port.port())
}

/// The path of an issuer that is the address of this server's gRPC port.
fn path_at_our_grpc_port(issuer: &str, grpc_port: SocketAddr) -> Option<String> {
    let issuer: Uri = issuer.parse().ok()?;
    let here = matches!(issuer.host()?, "localhost" | "127.0.0.1" | "[::1]");
    let ours =
        here && issuer.scheme_str() == Some("http") && issuer.port_u16() == Some(grpc_port.port());
    ours.then(|| issuer.path().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GRPC: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_051);
    const HTTP: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8_080);

    #[test]
    fn the_well_known_segment_is_between_host_and_path() {
        let (jwks, metadata) = paths("https://auth.example.com/shop/eu/");
        assert_eq!(jwks, [JWKS_PATH, "/shop/eu/.well-known/jwks.json"]);
        assert_eq!(
            metadata,
            [
                METADATA_PATH,
                "/.well-known/oauth-authorization-server/shop/eu"
            ]
        );
        for issuer in [
            "https://auth.example.com",
            "https://auth.example.com/",
            "https://a.example/{x}",
            "auth",
        ] {
            assert_eq!(paths(issuer).0, [JWKS_PATH], "{issuer}");
            assert_eq!(paths(issuer).1, [METADATA_PATH], "{issuer}");
        }
    }

    #[test]
    fn the_jwks_uri_is_below_the_issuer() {
        for (issuer, expected) in [
            (
                "https://auth.example.com",
                "https://auth.example.com/.well-known/jwks.json",
            ),
            (
                "https://auth.example.com/shop/",
                "https://auth.example.com/shop/.well-known/jwks.json",
            ),
            (
                "https://localhost:50051",
                "https://localhost:50051/.well-known/jwks.json",
            ),
            (
                "http://localhost:9000",
                "http://localhost:9000/.well-known/jwks.json",
            ),
            (
                "http://auth.example.com:50051",
                "http://auth.example.com:50051/.well-known/jwks.json",
            ),
        ] {
            assert_eq!(uri(issuer, JWKS_PATH, GRPC, HTTP), expected);
        }
    }

    #[test]
    fn the_jwks_uri_of_an_issuer_on_the_grpc_port_is_on_the_http_port() {
        for (issuer, expected) in [
            (
                "http://localhost:50051",
                "http://localhost:8080/.well-known/jwks.json",
            ),
            (
                "http://127.0.0.1:50051/a/",
                "http://127.0.0.1:8080/a/.well-known/jwks.json",
            ),
        ] {
            assert_eq!(uri(issuer, JWKS_PATH, GRPC, HTTP), expected);
        }
    }

    #[test]
    fn the_metadata_name_the_endpoints_and_how_clients_prove_themselves() {
        let metadata = Metadata::new("https://auth.example.com/shop", GRPC, HTTP);
        let metadata = serde_json::to_value(&metadata).unwrap();
        let base = "https://auth.example.com/shop";
        for (name, expected) in [
            ("issuer", json!(base)),
            ("jwks_uri", json!(format!("{base}/.well-known/jwks.json"))),
            ("token_endpoint", json!(format!("{base}/oauth2/token"))),
            (
                "introspection_endpoint",
                json!(format!("{base}/oauth2/introspect")),
            ),
            ("token_endpoint_auth_methods_supported", json!(AUTH_METHODS)),
            (
                "token_endpoint_auth_signing_alg_values_supported",
                json!(ALGORITHMS),
            ),
            (
                "grant_types_supported",
                json!(["client_credentials", TOKEN_EXCHANGE]),
            ),
            ("response_types_supported", json!([])),
        ] {
            assert_eq!(metadata[name], expected, "{name}");
        }
    }
}
