//! The token of a request, read from its header, and passed on to the next service.

use std::fmt;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tonic::{Request, Status, service::Interceptor};

use crate::VerifyError;

/// The access token of a request. `Debug` does not show it.
///
/// The layer puts it into the extensions of the request. As an [`Interceptor`] of a tonic client it sends the token with every call, so that
/// the next service sees the same user:
///
/// ```no_run
/// # use countersign_verifier::BearerToken;
/// # use tonic::{Request, Status, transport::Channel};
/// # mod orders { pub struct OrdersClient<T>(T); impl<T> OrdersClient<T> {
/// #     pub fn with_interceptor<I>(t: T, _: I) -> Self { Self(t) } } }
/// # use orders::OrdersClient;
/// # fn example(request: Request<()>, channel: Channel) -> Result<(), Status> {
/// let token = BearerToken::of(request.extensions())?;
/// let client = OrdersClient::with_interceptor(channel, token);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BearerToken(HeaderValue);

const SCHEME: &str = "Bearer ";

impl BearerToken {
    /// A token that is not of a request, such as the service's own.
    ///
    /// # Errors
    /// [`VerifyError::TokenInvalid`] when it is not visible ASCII.
    pub fn new(token: &str) -> Result<Self, VerifyError> {
        let is_visible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::from_str(&format!("{SCHEME}{token}"));
        let mut value = value.map_err(|_| VerifyError::TokenInvalid)?;
        value.set_sensitive(true);
        is_visible
            .then_some(Self(value))
            .ok_or(VerifyError::TokenInvalid)
    }

    /// The token that the layer has verified.
    ///
    /// # Errors
    /// UNAUTHENTICATED, when the layer is not in use or the path is open.
    pub fn of(extensions: &http::Extensions) -> Result<Self, Status> {
        let token = extensions.get::<Self>().cloned();
        token.ok_or_else(|| Status::unauthenticated(VerifyError::TokenMissing.to_string()))
    }

    /// Reads `authorization` (RFC 6750 section 2.1). The scheme may be in any case (RFC 9110 section 11.1).
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, VerifyError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(VerifyError::TokenMissing)?;
        if values.next().is_some() {
            return Err(VerifyError::TokenInvalid);
        }
        let text = value.to_str().map_err(|_| VerifyError::TokenInvalid)?;
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Self::new(token),
            _ => Err(VerifyError::TokenMissing),
        }
    }

    /// The token's text.
    pub(super) fn token(&self) -> &str {
        let text = self.0.to_str().unwrap_or_default();
        text.strip_prefix(SCHEME).unwrap_or_default()
    }
}

impl Interceptor for BearerToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        // A header of visible ASCII is good metadata.
        let value = self.0.as_bytes().try_into();
        let value = value.map_err(|_| Status::unauthenticated("The token is not ASCII."))?;
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, VerifyError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        BearerToken::read(&headers).map(|bearer| bearer.token().to_owned())
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_nothing_else_is_a_token() {
        assert_eq!(read(&["Bearer a.b.c"]), Ok("a.b.c".to_owned()));
        assert_eq!(read(&["bEARER a.b.c"]), Ok("a.b.c".to_owned()));
        for missing in [&[][..], &["Basic a"], &["Bearer"], &["a.b.c"], &[""]] {
            assert_eq!(read(missing), Err(VerifyError::TokenMissing), "{missing:?}");
        }
        for invalid in [
            &["Bearer "][..],
            &["Bearer  a"],
            &["Bearer a b"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(read(invalid), Err(VerifyError::TokenInvalid), "{invalid:?}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let bearer = BearerToken::new("secret").unwrap();
        assert!(!format!("{bearer:?}").contains("secret"));
    }
}
