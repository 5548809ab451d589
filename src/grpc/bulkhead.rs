//! Runs the calls of a service on another runtime than the one that serves its connection.
//!
//! A thread in the middle of a login cannot answer the validation that waits behind it. So connections
//! have threads of their own (`server::workers`), where only calls are answered that need no more than
//! memory: `ValidateToken`, health and reflection. All other calls run on the runtime of the rest of
//! the process. Responses that are streams are written where their connection is.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;
use tracing::Instrument as _;

use super::{Detail, Reason, RequestId, status};

/// A service whose calls run on another runtime than its connections. Dropping the future of a call
/// ends the call.
#[derive(Clone, Debug)]
pub struct Bulkhead<S> {
    inner: S,
    runtime: Handle,
}

impl<S> Bulkhead<S> {
    /// Sends the calls of `inner` to `runtime`.
    pub const fn new(inner: S, runtime: Handle) -> Self {
        Self { inner, runtime }
    }
}

impl<S: NamedService> NamedService for Bulkhead<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Bulkhead<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request_id = RequestId::of(request.extensions());
        let call = self.inner.call(request).in_current_span();
        let runtime = self.runtime.clone();
        Box::pin(async move {
            // The thread that this wakes may be given the core of the one that wakes it: answer the
            // validations that have arrived first.
            tokio::task::yield_now().await;
            let ended = AbortOnDropHandle::new(runtime.spawn(call)).await;
            ended.unwrap_or_else(|error| {
                let status = if error.is_panic() {
                    // The panic hook has written the cause.
                    let id = request_id.as_str();
                    tracing::error!(request_id = id, "the handler of a call panicked");
                    status(Reason::Internal, &request_id, Detail::None)
                } else {
                    // The other runtime has been shut down: the process is about to end.
                    Status::unavailable("The server is shutting down.")
                };
                Ok(status.into_http())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use tokio::runtime::{Builder, Runtime};
    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// A runtime with one thread of that name.
    fn runtime(name: &str) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).build().unwrap()
    }

    #[test]
    fn a_call_runs_on_the_other_runtime() {
        let (front, back) = (runtime("front"), runtime("back"));
        let name = || thread::current().name().unwrap_or_default().to_owned();
        let (ran, ran_on) = mpsc::channel();
        let inner = service_fn(move |_: Request<()>| {
            let ran = ran.clone();
            async move {
                ran.send(name()).unwrap();
                Ok(Response::new(Body::empty()))
            }
        });
        let bulkhead = Bulkhead::new(inner, back.handle().clone());
        let answered = front.spawn(async move {
            bulkhead.oneshot(Request::new(())).await.unwrap();
            name()
        });
        assert_eq!(front.block_on(answered).unwrap(), "front");
        assert_eq!(ran_on.recv().unwrap(), "back");
    }

    #[test]
    fn dropping_the_future_ends_the_call() {
        struct SendOnDrop(mpsc::Sender<()>);
        impl Drop for SendOnDrop {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }

        let (front, back) = (runtime("front"), runtime("back"));
        let (drops, dropped) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let inner = service_fn(move |_: Request<()>| {
            let (guard, begin) = (SendOnDrop(drops.clone()), begin.clone());
            async move {
                begin.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(guard);
                Ok(Response::new(Body::empty()))
            }
        });
        let mut bulkhead = Bulkhead::new(inner, back.handle().clone());
        let call = front.spawn(bulkhead.call(Request::new(())));
        begun.recv().expect("the call begins");
        call.abort();
        dropped
            .recv_timeout(Duration::from_secs(10))
            .expect("the call is dropped");
    }

    #[test]
    fn a_panic_of_the_handler_is_answered_with_internal() {
        let back = runtime("back");
        let inner = service_fn(
            async |_: Request<()>| -> Result<Response<Body>, Infallible> {
                panic!("this panic is part of a test")
            },
        );
        let bulkhead = Bulkhead::new(inner, back.handle().clone());
        let response = back.block_on(bulkhead.oneshot(Request::new(()))).unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), Reason::Internal.message());
    }
}
