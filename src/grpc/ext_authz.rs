//! `envoy.service.auth.v3.Authorization`: decides for Envoy whether a request is allowed.
//!
//! It answers from memory, like ValidateToken, and anyone may call it: it returns only what is in the caller's token.
//! What Envoy does with each answer is in `docs/gateways.md`.

use http::Extensions;
use tonic::{Request, Response, Status};

use super::{
    RequestId, convert, error_status,
    ext_authz_answer::{Client, allowed, denied},
    ext_authz_demands::RouteDemands,
    ext_authz_pb::{
        AttributeContext, CheckRequest, CheckResponse, attribute_context::HttpRequest,
        authorization_server,
    },
    forwarded_certificate::forwarded_sha256,
    layers::FromTrustedProxy,
};
use crate::auth::{Auth, AuthError, ClientCertificate, ValidateQuery};

/// Serves `envoy.service.auth.v3.Authorization`.
pub struct AuthorizationApi {
    auth: Auth,
}

impl AuthorizationApi {
    /// Decides by `auth`.
    pub const fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

#[tonic::async_trait]
impl authorization_server::Authorization for AuthorizationApi {
    /// Only for calls that the fast path passes on: see `fast_path.rs`.
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        check(&self.auth, message, &extensions)
            .map(Response::new)
            .map_err(|error| error_status(error, &RequestId::of(&extensions)))
    }
}

/// Answers Envoy's question in the request with these extensions.
///
/// # Errors
/// The configuration of the route is at fault: then Envoy answers with its `status_on_error`.
pub(super) fn check(
    auth: &Auth,
    request: CheckRequest,
    extensions: &Extensions,
) -> Result<CheckResponse, AuthError> {
    let attributes = request.attributes.unwrap_or_default();
    let demands = RouteDemands::parse(&attributes.context_extensions)?;
    let http = http_request(attributes);
    let is_trusted = extensions.get::<FromTrustedProxy>().is_some();
    let certificate = client_certificate(&http, is_trusted);
    let decision = decide(auth, &http, &demands, certificate);
    Ok(decision.unwrap_or_else(|error| {
        // The id that the client of the proxy knows.
        let request_id = one_value(&http, "x-request-id").and_then(RequestId::from_text);
        let request_id = request_id.unwrap_or_else(|| RequestId::of(extensions));
        let content_type = one_value(&http, "content-type").unwrap_or_default();
        denied(error, &request_id, Client::of(content_type))
    }))
}

/// The answer that lets the request pass.
fn decide(
    auth: &Auth,
    request: &HttpRequest,
    demands: &RouteDemands,
    certificate: ClientCertificate,
) -> Result<CheckResponse, AuthError> {
    let access_token = bearer(request)?;
    if access_token.is_empty() && demands.optional {
        return Ok(allowed(None, demands.remove_authorization));
    }
    let validated = auth.validate(ValidateQuery {
        access_token,
        audience: &demands.audience,
        required_roles: &demands.required_roles,
        max_auth_age: demands.max_auth_age,
        acceptable_acrs: &demands.acceptable_acrs,
        certificate,
    })?;
    let claims = Some(&**validated.claims);
    Ok(allowed(claims, demands.remove_authorization))
}

/// The request that is asked about; without headers when it is none of HTTP.
fn http_request(attributes: AttributeContext) -> HttpRequest {
    let request = attributes.request.and_then(|request| request.http);
    request.unwrap_or_default()
}

/// The bearer token of the request; empty when there is none.
///
/// # Errors
/// `TokenInvalid` when there are several `authorization` headers.
fn bearer(request: &HttpRequest) -> Result<&str, AuthError> {
    let mut values = values(request, "authorization");
    let first = values.next();
    if values.next().is_some() {
        return Err(AuthError::TokenInvalid);
    }
    Ok(first.flatten().map_or("", convert::bearer_of))
}

/// The certificate of the proxy's client, which is accepted only from a trusted proxy.
fn client_certificate(request: &HttpRequest, is_trusted: bool) -> ClientCertificate {
    let forwarded = one_value(request, "x-forwarded-client-cert").filter(|_| is_trusted);
    forwarded.and_then(forwarded_sha256).into()
}

/// The value of a header that came once and is text.
fn one_value<'a>(request: &'a HttpRequest, name: &'static str) -> Option<&'a str> {
    let mut values = values(request, name);
    let first = values.next()?;
    first.filter(|_| values.next().is_none())
}

/// The values of a header; `None` for one that is not text. Envoy sends either the one or the other form; were there both,
/// the values of both would count.
fn values<'a>(
    request: &'a HttpRequest,
    name: &'static str,
) -> impl Iterator<Item = Option<&'a str>> {
    let raw = request.header_map.iter().flat_map(|map| &map.headers);
    let raw = raw
        .filter(move |header| header.key.eq_ignore_ascii_case(name))
        .map(|header| match header.value.as_str() {
            "" => str::from_utf8(&header.raw_value).ok(),
            text => Some(text),
        });
    let joined = request.headers.get(name);
    joined
        .map(|text| Some(text.as_str()))
        .into_iter()
        .chain(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::ext_authz_core_pb::{HeaderMap, HeaderValue};

    fn raw(headers: &[(&str, &[u8])]) -> HttpRequest {
        let headers = headers.iter().map(|(key, value)| HeaderValue {
            key: (*key).to_owned(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        });
        HttpRequest {
            header_map: Some(HeaderMap {
                headers: headers.collect(),
            }),
            ..HttpRequest::default()
        }
    }

    #[test]
    fn the_token_is_found_in_both_forms_of_headers() {
        assert_eq!(
            bearer(&raw(&[("Authorization", b"Bearer abc")])).unwrap(),
            "abc"
        );
        let mut joined = HttpRequest::default();
        joined
            .headers
            .insert("authorization".into(), "bearer abc".into());
        assert_eq!(bearer(&joined).unwrap(), "abc");
        assert_eq!(bearer(&HttpRequest::default()).unwrap(), "");
        assert_eq!(
            bearer(&raw(&[("authorization", b"Basic abc")])).unwrap(),
            ""
        );
    }

    #[test]
    fn of_two_authorization_headers_none_is_chosen() {
        let twice: [(&str, &[u8]); 2] = [
            ("authorization", b"Bearer abc"),
            ("authorization", b"Bearer abc"),
        ];
        assert!(matches!(bearer(&raw(&twice)), Err(AuthError::TokenInvalid)));
        let mut both = raw(&twice[..1]);
        both.headers
            .insert("authorization".into(), "Bearer abc".into());
        assert!(matches!(bearer(&both), Err(AuthError::TokenInvalid)));
    }

    #[test]
    fn a_header_that_is_no_text_has_no_value() {
        let request = raw(&[("x-request-id", b"\xff"), ("authorization", b"Bearer \xff")]);
        assert_eq!(one_value(&request, "x-request-id"), None);
        assert_eq!(bearer(&request).unwrap(), "");
    }
}
