//! Refuses requests that are not gRPC calls of a method in the table, before any service sees them.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Request, Response,
    header::CONTENT_TYPE,
};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{methods, request_id};
use crate::grpc::RequestId;
use crate::grpc::protocol_error::ProtocolError;

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolLayer {
    max_header_size: u32,
}

impl ProtocolLayer {
    /// Refuses headers of more than `max_header_size` bytes, besides what breaks the protocol.
    pub const fn new(max_header_size: u32) -> Self {
        Self { max_header_size }
    }
}

impl<S> Layer<S> for ProtocolLayer {
    type Service = ProtocolService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProtocolService {
            inner,
            max_header_size: self.max_header_size,
        }
    }
}

/// The service of [`ProtocolLayer`].
#[derive(Clone, Debug)]
pub struct ProtocolService<S> {
    inner: S,
    max_header_size: u32,
}

impl<S, B> Service<Request<B>> for ProtocolService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match check(&request, self.max_header_size) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(error) => {
                let response = error.response(&RequestId::of(request.extensions()));
                Either::Left(ready(Ok(response)))
            }
        }
    }
}

fn check<B>(request: &Request<B>, max_header_size: u32) -> Result<(), ProtocolError> {
    let path = request.uri().path();
    if request.method() != HttpMethod::POST {
        return Err(ProtocolError::HttpMethod);
    }
    if !is_grpc(request.headers()) {
        return Err(ProtocolError::ContentType);
    }
    if size_sent(path, request.headers()) > max_header_size as usize {
        return Err(ProtocolError::HeadersTooLarge);
    }
    if methods::find(path).is_none() {
        return Err(match methods::service_of(path) {
            Some(service) => ProtocolError::UnknownMethod(service),
            None => ProtocolError::UnknownService,
        });
    }
    Ok(())
}

/// Whether the body holds protobuf in gRPC frames: `application/grpc` or `application/grpc+proto`,
/// perhaps with parameters. Any other subtype, such as `+json`, is another encoding of messages.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let value = value.as_bytes();
    let end = value.iter().position(|byte| *byte == b';');
    let essence = value[..end.unwrap_or(value.len())].trim_ascii();
    essence.eq_ignore_ascii_case(b"application/grpc")
        || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// The size of what the caller sent. Without the request id, which may be the server's.
fn size_sent(path: &str, headers: &HeaderMap) -> usize {
    let id = headers.get(request_id::HEADER);
    let id = id.map_or(0, |value| field_size(&request_id::HEADER, value));
    header_size(path, headers) - id
}

/// The size as HTTP/2 counts it (RFC 9113 section 6.5.2), with the path as the only pseudo-header.
pub(in crate::grpc) fn header_size(path: &str, headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    let sizes = fields.map(|(name, value)| field_size(name, value));
    path.len() + sizes.sum::<usize>()
}

fn field_size(name: &HeaderName, value: &HeaderValue) -> usize {
    const OVERHEAD: usize = 32;
    name.as_str().len() + value.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";

    fn request(method: &str, content_type: &str, path: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(path);
        let request = match content_type {
            "" => request,
            content_type => request.header(CONTENT_TYPE, content_type),
        };
        request.body(()).unwrap()
    }

    #[test]
    fn only_grpc_with_protobuf_passes() {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "application/grpc; charset=utf-8",
            "application/grpc+proto;a=b",
        ] {
            let request = request("POST", content_type, VALIDATE);
            assert_eq!(check(&request, 1_000), Ok(()), "{content_type}");
        }
        for content_type in [
            "",
            "application/json",
            "application/grpc+json",
            "application/grpc-web",
            "application/grpcx",
            "text/plain; application/grpc",
            "application/x-www-form-urlencoded",
        ] {
            let request = request("POST", content_type, VALIDATE);
            let refused = check(&request, 1_000);
            assert_eq!(refused, Err(ProtocolError::ContentType), "{content_type}");
        }
    }

    #[test]
    fn only_post_passes() {
        for method in ["GET", "HEAD", "PUT", "OPTIONS", "post", "CONNECT"] {
            let request = request(method, "application/grpc", VALIDATE);
            assert_eq!(check(&request, 1_000), Err(ProtocolError::HttpMethod));
        }
    }

    #[test]
    fn a_path_that_is_not_in_the_table_is_refused() {
        let service = "countersign.auth.v1.AuthService";
        let unknown_method = ProtocolError::UnknownMethod(service);
        for (path, error) in [
            ("/".to_owned(), ProtocolError::UnknownService),
            ("/who.is/ada".to_owned(), ProtocolError::UnknownService),
            (format!("/{VALIDATE}"), ProtocolError::UnknownService),
            (format!("{VALIDATE}/"), unknown_method),
            (format!("/{service}/validatetoken"), unknown_method),
            (format!("/{service}/Nonsense"), unknown_method),
        ] {
            let request = request("POST", "application/grpc", &path);
            assert_eq!(check(&request, 1_000), Err(error), "{path}");
        }
    }

    #[test]
    fn headers_are_bounded_in_sum() {
        let mut request = request("POST", "application/grpc", VALIDATE);
        let value = "x".repeat(100).parse().unwrap();
        request.headers_mut().insert("x-large", value);
        let size = header_size(VALIDATE, request.headers());
        let expected = VALIDATE.len() + (12 + 16 + 32) + (7 + 100 + 32);
        assert_eq!(size, expected);
        // A request without an id has been given one by now.
        let id = "x".repeat(36).parse().unwrap();
        request.headers_mut().insert("x-request-id", id);
        let size = u32::try_from(size).unwrap();
        assert_eq!(check(&request, size), Ok(()));
        assert_eq!(
            check(&request, size - 1),
            Err(ProtocolError::HeadersTooLarge)
        );
    }
}
