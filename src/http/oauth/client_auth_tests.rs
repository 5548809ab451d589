//! Tests of how the credential of a client is read.

use proptest::prelude::*;

use super::*;

fn header_of(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value.parse().unwrap());
    headers
}

fn basic_of(text: &str) -> HeaderMap {
    header_of(&format!("Basic {}", STANDARD.encode(text)))
}

fn form(body: &str) -> Form {
    let mut headers = HeaderMap::new();
    let kind = "application/x-www-form-urlencoded";
    headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
    Form::read(&headers, body.as_bytes()).unwrap()
}

fn read(
    headers: &HeaderMap,
    body: &str,
) -> Result<Option<(Option<String>, String, bool)>, OAuthError> {
    let credential = ClientCredential::read(headers, &form(body))?;
    Ok(credential.map(|credential| {
        let proof = match credential.proof {
            Proof::Secret(text) => text.to_string(),
            Proof::Assertion(text) => format!("assertion {}", *text),
        };
        (credential.client_id, proof, credential.by_basic)
    }))
}

fn id(name: &str) -> String {
    name.to_owned()
}

#[test]
fn a_secret_in_basic_is_form_decoded_whether_the_client_encoded_it_or_not() {
    for text in [
        "orders:csk_abc-def",
        "orders:csk%5Fabc%2Ddef",
        "%6Frders:csk_abc%2ddef",
    ] {
        let read = read(&basic_of(text), "").unwrap().unwrap();
        assert_eq!(
            read,
            (Some(id("orders")), "csk_abc-def".to_owned(), true),
            "{text}"
        );
    }
    let lower = header_of(&format!("basic {}", STANDARD.encode("orders:s")));
    assert!(read(&lower, "client_id=orders").unwrap().is_some());
}

#[test]
fn a_secret_or_an_assertion_in_the_form_is_read() {
    let none = HeaderMap::new();
    let secret = read(&none, "client_id=orders&client_secret=csk%5Fabc")
        .unwrap()
        .unwrap();
    assert_eq!(secret, (Some(id("orders")), "csk_abc".to_owned(), false));
    let kind =
        "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    for (more, client_id) in [("", None), ("&client_id=orders", Some(id("orders")))] {
        let body = format!("{kind}&client_assertion=a.b.c{more}");
        let assertion = read(&none, &body).unwrap().unwrap();
        assert_eq!(assertion, (client_id, "assertion a.b.c".to_owned(), false));
    }
    assert_eq!(read(&none, "client_id=orders").unwrap(), None);
    assert_eq!(
        read(&none, "client_id=orders&client_secret=").unwrap(),
        None
    );
}

#[test]
fn more_than_one_credential_is_an_invalid_request() {
    let basic = basic_of("orders:s");
    for body in [
        "client_id=orders&client_secret=s",
        "client_id=billing",
        "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=a.b.c",
    ] {
        assert_eq!(
            read(&basic, body).unwrap_err().code,
            "invalid_request",
            "{body}"
        );
    }
    let mut twice = basic_of("orders:s");
    twice.append(header::AUTHORIZATION, "Basic eDp5".parse().unwrap());
    assert_eq!(read(&twice, "").unwrap_err().code, "invalid_request");
}

#[test]
fn an_incomplete_credential_is_refused() {
    let none = HeaderMap::new();
    for body in [
        "client_secret=s",
        "client_assertion=a.b.c",
        "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:saml2-bearer&client_assertion=a",
    ] {
        assert_eq!(
            read(&none, body).unwrap_err().code,
            "invalid_request",
            "{body}"
        );
    }
    for value in [
        "Basic",
        "Basic !",
        "Basic b3JkZXJz",
        "Basic Onk=",
        "Bearer abc",
        "Digest x=y",
    ] {
        let error = read(&header_of(value), "").unwrap_err();
        assert_eq!(
            (error.code, error.status.as_u16()),
            ("invalid_client", 401),
            "{value}"
        );
        // A challenge only for those who came with Basic.
        let challenged = error.challenge.is_some();
        assert_eq!(challenged, value.starts_with("Basic "), "{value}");
    }
}

proptest! {
    #[test]
    fn no_header_makes_the_parser_panic(text in any::<Vec<u8>>()) {
        let _ = read(&header_of(&format!("Basic {}", STANDARD.encode(&text))), "");
        if let Ok(value) = http::HeaderValue::from_bytes(&text) {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value);
            let _ = read(&headers, "");
        }
    }
}
