//! Reads the parameters of an OAuth request: `application/x-www-form-urlencoded` in UTF-8 (RFC 6749 appendix B).

use http::{HeaderMap, header};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use super::error::OAuthError;

/// Longest body, in bytes: three tokens of the longest kind.
pub(super) const MAX_LENGTH: usize = 64 * 1024;
/// Most parameters.
const MAX_PARAMETERS: usize = 64;
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// The parameters that may be repeated (RFC 8693 section 2.1, RFC 8707 section 2).
const REPEATABLE: &[&str] = &["audience", "resource"];

/// The parameters of a request. They may be secrets: the values are wiped, and `Debug` shows none.
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Form")
    }
}

impl Form {
    /// Reads a body. Parameters without a value count as absent (RFC 6749 section 3.2): clients send `scope=` for none.
    ///
    /// # Errors
    /// `invalid_request`: it is no form in UTF-8, or repeats a parameter.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, OAuthError> {
        if !is_form(headers) {
            return Err(OAuthError::invalid_request(
                "the content type must be application/x-www-form-urlencoded",
            ));
        }
        Self::parse(body)
    }

    fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in body
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
            let (name, value) = (decoded(name)?, decoded(value.get(1..).unwrap_or_default())?);
            if value.is_empty() {
                continue;
            }
            let is_repeated = parameters.iter().any(|(known, _)| known == name.as_str());
            if is_repeated && !REPEATABLE.contains(&name.as_str()) {
                return Err(OAuthError::invalid_request("a parameter is repeated"));
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(OAuthError::invalid_request("there are too many parameters"));
            }
            parameters.push((name.to_string(), value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter that is not repeated.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// The values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// `invalid_request`, with a description that names it.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.get(name).ok_or(OAuthError::missing(name))
    }
}

/// Whether the media type is that of a form; `charset=UTF-8`, which some clients add, is what a form has anyway.
fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(CONTENT_TYPE)
}

/// A name or value: `+` is a space, `%` begins two hexadecimal digits.
pub(super) fn decoded(text: &[u8]) -> Result<Zeroizing<String>, OAuthError> {
    let spaced: Zeroizing<Vec<u8>> = Zeroizing::new(
        text.iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect(),
    );
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(OAuthError::invalid_request("a parameter is not UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &str) -> Result<Form, &'static str> {
        Form::parse(body.as_bytes()).map_err(|error| error.description)
    }

    #[test]
    fn parameters_are_decoded() {
        let form =
            parse("grant_type=client_credentials&a=1+%2B%c3%A9&client_secret=csk%5Fabc%2Ddef")
                .unwrap();
        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("a"), Some("1 +é"));
        assert_eq!(form.get("client_secret"), Some("csk_abc-def"));
        assert_eq!(form.get("b"), None);
        assert_eq!(
            form.required("scope").unwrap_err().description,
            "the parameter scope is missing"
        );
    }

    #[test]
    fn empty_parameters_count_as_absent() {
        let form = parse("scope=&refresh_token&&=x&audience=&scope=a").unwrap();
        assert_eq!(form.get("scope"), Some("a"));
        assert_eq!(form.get("refresh_token"), None);
        assert_eq!(form.all("audience").count(), 0);
    }

    #[test]
    fn only_audience_and_resource_may_be_repeated() {
        let form = parse("audience=a&audience=b&resource=c&resource=c").unwrap();
        assert_eq!(form.all("audience").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(form.all("resource").count(), 2);
        assert_eq!(
            parse("scope=a&scope=a").unwrap_err(),
            "a parameter is repeated"
        );
    }

    #[test]
    fn what_is_not_utf_8_or_has_too_many_parameters_is_refused() {
        assert_eq!(parse("a=%ff").unwrap_err(), "a parameter is not UTF-8");
        let many: Vec<_> = (0..65).map(|at| format!("p{at}=1")).collect();
        let many = many.join("&");
        assert_eq!(parse(&many).unwrap_err(), "there are too many parameters");
    }

    #[test]
    fn the_content_type_may_have_a_charset() {
        for (value, is_accepted) in [
            ("application/x-www-form-urlencoded", true),
            ("application/x-www-form-urlencoded;charset=UTF-8", true),
            ("Application/X-WWW-Form-Urlencoded ; charset=utf-8", true),
            ("application/json", false),
            ("application/x-www-form-urlencodedx", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(Form::read(&headers, b"").is_ok(), is_accepted, "{value}");
        }
        assert!(Form::read(&HeaderMap::new(), b"").is_err());
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in any::<Vec<u8>>()) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn near_misses_make_no_parser_panic(body in "[a=&%+0-9é]{0,60}") {
            let _ = parse(&body);
        }
    }
}
