//! Bounds how many calls are under way at once: further ones are refused instead of queueing.
//!
//! tower's concurrency limit and load shedding, around the services that hash or use the database.
//! `ValidateToken`, health and reflection are answered from memory and go without.

use std::{convert::Infallible, num::NonZeroUsize, time::Duration};

use axum::{body::Body, error_handling::HandleErrorLayer, response::Response};
use http::Request;
use tower::{
    BoxError, Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer,
};

use crate::grpc::{Detail, PendingStatus, Reason};

/// When a caller that was refused should try again.
const RETRY: Duration = Duration::from_secs(1);

/// The limit; clones, and all services that they are put around, share it.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct ConcurrencyLimit(GlobalConcurrencyLimitLayer);

impl ConcurrencyLimit {
    /// At most `max` calls at once. A call that streams its response counts until the stream begins.
    pub(in crate::grpc) fn new(max: NonZeroUsize) -> Self {
        Self(GlobalConcurrencyLimitLayer::new(max.get()))
    }

    /// Puts the limit around a service.
    pub(in crate::grpc) fn wrap<S>(
        &self,
        service: S,
    ) -> impl Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + use<S>
    where
        S: Service<Request<Body>, Response = http::Response<tonic::body::Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refuse))
            .layer(LoadShedLayer::new())
            .layer(self.0.clone())
            .service(service)
    }
}

/// The response instead of the only error there is: that all places are taken.
async fn refuse(_: BoxError) -> Response {
    PendingStatus {
        reason: Reason::Overloaded,
        detail: Detail::RetryAfter(RETRY),
    }
    .into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_call_over_the_limit_is_refused_and_a_finished_one_frees_its_place() {
        let finish = Arc::new(Notify::new());
        let limit = ConcurrencyLimit::new(NonZeroUsize::new(2).unwrap());
        let wait = Arc::clone(&finish);
        let service = limit.wrap(service_fn(move |_: Request<Body>| {
            let wait = Arc::clone(&wait);
            async move {
                wait.notified().await;
                Ok::<_, Infallible>(http::Response::new(tonic::body::Body::empty()))
            }
        }));
        let call = || service.clone().oneshot(Request::new(Body::empty()));
        let refused = |response: Response| {
            let pending = response.extensions().get::<PendingStatus>();
            pending.is_some_and(|pending| pending.reason == Reason::Overloaded)
        };
        let running: Vec<_> = (0..2).map(|_| tokio::spawn(call())).collect();
        tokio::task::yield_now().await;
        assert!(refused(call().await.unwrap()));
        finish.notify_waiters();
        for call in running {
            assert!(!refused(call.await.unwrap().unwrap()));
        }
        finish.notify_one();
        assert!(!refused(call().await.unwrap()));
    }
}
