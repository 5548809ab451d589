//! The service that the layer makes.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use tower_service::Service;

use super::{BearerToken, Refusal, RequireToken};
use crate::{Claims, Demand, VerifyError};

/// The longest request id that is repeated.
const LONGEST_REQUEST_ID: usize = 128;

/// A service behind a [`RequireToken`] layer.
#[derive(Clone, Debug)]
pub struct RequireTokenService<S> {
    layer: RequireToken,
    inner: S,
}

impl<S> RequireTokenService<S> {
    pub(super) const fn new(layer: RequireToken, inner: S) -> Self {
        Self { layer, inner }
    }
}

impl<S, B, R> Service<Request<B>> for RequireTokenService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(demand) = self.layer.demand_of(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        // The one that is ready; the clone is for the next call.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            match check(&layer, request.headers(), &demand).await {
                Ok((claims, bearer)) => {
                    request.extensions_mut().insert(claims);
                    request.extensions_mut().insert(bearer);
                    inner.call(request).await
                }
                Err(error) => Ok(layer.answer(&Refusal {
                    error,
                    demand,
                    request_id: request_id(request.headers()),
                })),
            }
        })
    }
}

async fn check(
    layer: &RequireToken,
    headers: &HeaderMap,
    demand: &Demand,
) -> Result<(Arc<Claims>, BearerToken), VerifyError> {
    let bearer = BearerToken::read(headers)?;
    let claims = layer.verifier.verify_or_ask(bearer.token(), demand).await?;
    Ok((claims, bearer))
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let is_good = (1..=LONGEST_REQUEST_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then(|| id.to_owned())
}
