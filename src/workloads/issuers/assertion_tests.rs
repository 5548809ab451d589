//! Tests of how an assertion is taken apart.

use proptest::prelude::*;

use super::*;

const HEADER: &str = r#"{"alg":"RS256","kid":"1"}"#;
const CLAIMS: &str = r#"{"iss":"i","sub":"s","aud":"a","exp":20,"iat":10}"#;

fn compact(header: &str, claims: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.AAAA", encode(header), encode(claims))
}

fn claims_of(claims: &str) -> Result<Claims, RefusalCause> {
    Assertion::parse(&compact(HEADER, claims)).map(|assertion| assertion.claims)
}

fn cause_of(header: &str) -> Option<RefusalCause> {
    Assertion::parse(&compact(header, CLAIMS)).err()
}

#[test]
fn a_kubernetes_token_is_read() {
    let claims = r#"{"aud":["countersign"],"exp":1795482000,"iat":1795478400,"nbf":1795478400,
        "iss":"https://kubernetes.default.svc.cluster.local","jti":"0f2e",
        "kubernetes.io":{"namespace":"shop","serviceaccount":{"name":"orders","uid":"1"}},
        "sub":"system:serviceaccount:shop:orders"}"#;
    let claims = claims_of(claims).unwrap();
    assert_eq!(claims.sub, "system:serviceaccount:shop:orders");
    assert_eq!(claims.aud, ["countersign"]);
    assert_eq!(
        (claims.iat, claims.nbf, claims.exp),
        (1_795_478_400, Some(1_795_478_400), 1_795_482_000)
    );
    assert_eq!(claims.jti.as_deref(), Some("0f2e"));
}

#[test]
fn an_issuer_is_not_demanded_and_fractions_are_cut_off() {
    let claims = claims_of(r#"{"sub":"s","aud":"a","exp":20.9,"iat":1e1}"#).unwrap();
    assert_eq!((claims.iss, claims.exp, claims.iat), (None, 20, 10));
}

#[test]
fn missing_doubled_and_mistyped_claims_are_malformed() {
    for claims in [
        "[]",
        "null",
        r#"["i","s","a",20,10]"#,
        r#"{"sub":"s","aud":"a","exp":20}"#,
        r#"{"sub":"s","aud":"a","iat":10}"#,
        r#"{"sub":"s","exp":20,"iat":10}"#,
        r#"{"aud":"a","exp":20,"iat":10}"#,
        r#"{"sub":"s","aud":"a","exp":"20","iat":10}"#,
        r#"{"sub":"s","aud":"a","exp":null,"iat":10}"#,
        r#"{"sub":"s","aud":{"a":1},"exp":20,"iat":10}"#,
        r#"{"sub":["s"],"aud":"a","exp":20,"iat":10}"#,
        r#"{"iss":null,"sub":"s","aud":"a","exp":20,"iat":10}"#,
        r#"{"jti":1,"sub":"s","aud":"a","exp":20,"iat":10}"#,
        r#"{"sub":"s","sub":"t","aud":"a","exp":20,"iat":10}"#,
        r#"{"sub":"s","s\u0075b":"t","aud":"a","exp":20,"iat":10}"#,
        r#"{"x":1,"x":1,"sub":"s","aud":"a","exp":20,"iat":10}"#,
        r#"{"sub":"s","aud":"a","exp":20,"iat":10} {}"#,
    ] {
        assert_eq!(
            claims_of(claims).err(),
            Some(RefusalCause::Malformed),
            "{claims}"
        );
    }
}

#[test]
fn algorithms_that_are_no_signature_are_refused() {
    for algorithm in ["none", "None", "", "HS256", "RS512", "rs256", "dir"] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        assert_eq!(
            cause_of(&header),
            Some(RefusalCause::Algorithm),
            "{algorithm}"
        );
    }
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"] {
        assert_eq!(
            cause_of(&format!(r#"{{"alg":"{algorithm}"}}"#)),
            None,
            "{algorithm}"
        );
    }
}

#[test]
fn types_that_are_no_assertion_and_critical_extensions_are_refused() {
    for typ in [
        "JWT",
        "jwt",
        "JOSE",
        "application/JWT",
        "client-authentication+jwt",
    ] {
        assert_eq!(
            cause_of(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#)),
            None,
            "{typ}"
        );
    }
    for header in [
        r#"{"alg":"RS256","typ":"at+jwt"}"#,
        r#"{"alg":"RS256","typ":"logout+jwt"}"#,
        r#"{"alg":"RS256","crit":[]}"#,
        r#"{"alg":"RS256","crit":null}"#,
    ] {
        assert_eq!(cause_of(header), Some(RefusalCause::Type), "{header}");
    }
    for header in [
        r#"{"alg":"RS256","alg":"RS256"}"#,
        r#"{"alg":"RS256","kid":1}"#,
        "{}",
    ] {
        assert_eq!(cause_of(header), Some(RefusalCause::Malformed), "{header}");
    }
}

#[test]
fn only_the_compact_form_of_three_parts_is_read() {
    let good = compact(HEADER, CLAIMS);
    for text in [
        String::new(),
        "..".to_owned(),
        good.rsplit_once('.').unwrap().0.to_owned(),
        format!("{good}.AAAA"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
    ] {
        assert_eq!(
            Assertion::parse(&text).err(),
            Some(RefusalCause::Malformed),
            "{text}"
        );
    }
    let long = "a".repeat(MAX_ASSERTION_LENGTH + 1);
    assert_eq!(Assertion::parse(&long).err(), Some(RefusalCause::TooLong));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = Assertion::parse(&text);
    }

    #[test]
    fn no_header_and_claims_make_the_parser_panic(header in any::<String>(), claims in any::<String>()) {
        let _ = Assertion::parse(&compact(&header, &claims));
    }

    #[test]
    fn near_misses_make_no_parser_panic(
        name in "(sub|aud|exp|iat|nbf|jti|iss|x)",
        value in r#"(null|-?[0-9]{1,25}(\.[0-9]{1,3})?(e[0-9]{1,3})?|"[a-z]{0,4}"|\[("a",?){0,3}\]|\{\}|true)"#,
    ) {
        let claims = format!(r#"{{"{name}":{value},"sub":"s","aud":"a","exp":20,"iat":10}}"#);
        let _ = claims_of(&claims);
        let _ = claims_of(&format!(r#"{{"{name}":{value}}}"#));
    }
}
