//! Tests of how the file of trusted issuers is read.

use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = r#"
[[issuer]]
name = "cluster-a"
issuer = "https://kubernetes.default.svc.cluster.local"
audience = "countersign"
jwks_url = "https://10.0.0.1/openid/v1/jwks"
algorithms = ["RS256"]
allow_networks = ["10.0.0.0/8"]
ca_file = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"

[[issuer]]
name = "mesh"
spiffe_trust_domain = "example.org"
audience = "countersign"
jwks_file = "/run/spire/bundle.jwks"
algorithms = ["ES256"]

[[issuer]]
name = "ci"
issuer = "https://ci.example.com"
audience = "https://auth.example.com"
jwks_url = "https://ci.example.com/.well-known/jwks"
algorithms = ["RS256", "ES256", "EdDSA"]
single_use = true

[[binding]]
issuer = "cluster-a"
subject = "system:serviceaccount:shop:orders"
service_account = "orders"

[[binding]]
issuer = "mesh"
subject = "spiffe://example.org/shop/billing"
service_account = "billing"
"#;

fn problems(text: &str) -> Vec<String> {
    let problems = IssuersFile::parse(text).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

/// The example with one text replaced, and its only problem.
fn problem(old: &str, new: &str) -> String {
    assert!(EXAMPLE.contains(old), "{old}");
    let found = problems(&EXAMPLE.replacen(old, new, 1));
    assert!(!found.is_empty(), "{new}");
    found[0].clone()
}

#[test]
fn the_example_of_the_contract_is_read() {
    let file = IssuersFile::parse(EXAMPLE).unwrap();
    let [cluster, mesh, ci] = &file.issuers[..] else {
        panic!("{file:?}")
    };
    assert_eq!(cluster.algorithms, [AssertionAlgorithm::Rs256]);
    assert!(matches!(&cluster.keys, KeyLocation::Url(url) if url.allow_networks.len() == 1));
    let domain = IssuerIdentity::SpiffeTrustDomain("example.org".to_owned());
    assert_eq!(mesh.identity, domain);
    assert!(ci.single_use && !mesh.single_use);
    assert_eq!(file.bindings[1].service_account, "billing");
    assert_eq!(IssuersFile::parse("").unwrap(), IssuersFile::default());
}

#[test]
fn an_unknown_member_is_refused_with_its_line_and_name() {
    let found = problem(
        "single_use = true",
        "single_use = true\nalgorithm = \"RS256\"",
    );
    assert!(
        found.starts_with("line 25: unknown field `algorithm`"),
        "{found}"
    );
    let found = problem("[[binding]]", "[[bindings]]");
    assert!(
        found.starts_with("line 26: unknown field `bindings`"),
        "{found}"
    );
    let found = problem("subject =", "subjects =");
    assert!(
        found.starts_with("line 28: unknown field `subjects`"),
        "{found}"
    );
}

#[test]
fn malformed_toml_wrong_types_and_missing_members_are_refused_with_their_line() {
    for (old, new, start) in [
        ("name = \"ci\"", "name = ci", "line 19: "),
        ("name = \"ci\"", "name = 1", "line 19: invalid type"),
        (
            "single_use = true",
            "single_use = \"yes\"",
            "line 24: invalid type",
        ),
        (
            "audience = \"https://auth.example.com\"",
            "",
            "line 18: missing field `audience`",
        ),
        (
            "\"EdDSA\"]",
            "\"HS256\"]",
            "line 23: unknown variant `HS256`",
        ),
        (
            "name = \"ci\"",
            "name = \"ci\"\nname = \"ci\"",
            "line 20: duplicate key",
        ),
    ] {
        let found = problem(old, new);
        assert!(found.starts_with(start), "{new}: {found}");
        assert!(!found.contains('\n'), "{found}");
    }
}

#[test]
fn values_that_cannot_hold_are_refused() {
    for (old, new, expected) in [
        (
            "name = \"mesh\"",
            "name = \"cluster-a\"",
            "line 11: a second issuer is named \"cluster-a\"",
        ),
        (
            "name = \"mesh\"",
            "name = \"Mesh\"",
            "line 11: name must fit [a-z][a-z0-9-]{0,62}",
        ),
        (
            "\"https://ci.example.com\"",
            "\"https://kubernetes.default.svc.cluster.local\"",
            "line 18: a second issuer has this issuer or spiffe_trust_domain",
        ),
        (
            "spiffe_trust_domain = \"example.org\"",
            "",
            "line 11: one of issuer and spiffe_trust_domain must be given",
        ),
        (
            "spiffe_trust_domain = \"example.org\"",
            "spiffe_trust_domain = \"spiffe://example.org\"",
            "line 11: spiffe_trust_domain must be a name such as example.org",
        ),
        (
            "jwks_file = \"/run/spire/bundle.jwks\"",
            "",
            "line 11: one of jwks_url and jwks_file must be given",
        ),
        (
            "algorithms = [\"ES256\"]",
            "algorithms = []",
            "line 11: algorithms must name RS256, PS256, ES256 or EdDSA, each once",
        ),
        (
            "[\"ES256\"]",
            "[\"ES256\", \"ES256\"]",
            "line 11: algorithms must name RS256, PS256, ES256 or EdDSA, each once",
        ),
        (
            "[\"ES256\"]",
            "[\"ES256\"]\nca_file = \"a\"",
            "line 11: allow_networks and ca_file belong to jwks_url",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.0/33",
            "line 2: allow_networks must hold networks such as 10.0.0.0/8",
        ),
        (
            "https://10.0.0.1",
            "http://10.0.0.1",
            "line 2: ca_file needs a jwks_url with https",
        ),
        (
            "jwks_url = \"https://ci",
            "jwks_url = \"http://ci",
            "line 18: jwks_url must be an https URL (http only with a loopback address as host)",
        ),
        (
            "jwks_url = \"https://ci",
            "jwks_url = \"https://u:p@ci",
            "line 18: jwks_url is not a URL without user and fragment",
        ),
        (
            "issuer = \"mesh\"",
            "issuer = \"mush\"",
            "line 31: issuer is not the name of an issuer of this file",
        ),
        (
            "shop:orders\"",
            "shop:default\"",
            "line 26: subject is the service account \"default\" of a namespace, which every pod has: use one of its own",
        ),
        (
            "subject = \"spiffe://example.org/",
            "subject = \"spiffe://example.com/",
            "line 31: subject is no SPIFFE ID of the issuer's trust domain (spiffe://TRUST_DOMAIN/PATH)",
        ),
        (
            "= \"orders\"",
            "= \"Orders\"",
            "line 26: service_account is no name of a service account ([a-z][a-z0-9-]{0,62})",
        ),
        (
            "subject = \"system:serviceaccount:shop:orders\"",
            "subject = \"\"",
            "line 26: subject must have 1 to 1024 bytes",
        ),
    ] {
        assert_eq!(problem(old, new), expected);
    }
    let twice = EXAMPLE.to_owned() + &EXAMPLE[EXAMPLE.find("[[binding]]").unwrap()..];
    assert_eq!(
        problems(&twice)[0],
        "line 35: an earlier binding has the same issuer and subject"
    );
}

#[test]
fn all_values_that_cannot_hold_are_reported_at_once() {
    let text = EXAMPLE
        .replace("name = \"mesh\"", "name = \"M\"")
        .replace("= \"orders\"", "= \"O\"");
    let found = problems(&text);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn plain_http_is_only_for_loopback_addresses() {
    for url in ["http://127.0.0.1:8080/keys", "http://[::1]/keys"] {
        assert!(checked_url(url, false).is_ok(), "{url}");
    }
    for url in [
        "http://localhost/keys",
        "http://0x7f.1/",
        "http://127.0.0.1.example.com/",
        "file:///keys",
        "keys",
    ] {
        assert!(checked_url(url, false).is_err(), "{url}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = IssuersFile::parse(&text);
    }

    #[test]
    fn near_misses_make_no_reader_panic(start in 0_usize..900, length in 0_usize..40, new in "[\\[\\]\"=\\n a-z0-9é]{0,12}") {
        let start = start.min(EXAMPLE.len());
        let end = (start + length).min(EXAMPLE.len());
        let text = format!("{}{new}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
        if let Err(found) = IssuersFile::parse(&text) {
            prop_assert!(found.iter().all(|problem| !problem.to_string().contains('\n')));
        }
    }
}
