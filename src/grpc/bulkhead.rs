//! Calls that compute or wait for a database run on other threads than those that serve connections.
//!
//! A thread in the midst of a login cannot answer the validation that waits behind it. So connections have threads
//! of their own (`server::front`); plain calls of `ValidateToken` (`fast_lane`), health and reflection are answered
//! there, and every call of the services below is sent to the runtime where the rest of the work is done: a bulkhead
//! between the two. Answers that are streams are written where connections are.

use std::{
    convert::Infallible,
    panic,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;
use tracing::Instrument as _;

/// A service whose calls run on another runtime than its connections. Dropping the future ends the call.
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
        let call = self.inner.call(request).in_current_span();
        let runtime = self.runtime.clone();
        Box::pin(async move {
            // The thread that this wakes may take the core from the one that wakes it. Validations that have come are
            // answered before.
            tokio::task::yield_now().await;
            let ended = AbortOnDropHandle::new(runtime.spawn(call)).await;
            ended.unwrap_or_else(|error| match error.try_into_panic() {
                // It ends this call alone, as if there were no bulkhead.
                Ok(payload) => panic::resume_unwind(payload),
                // The other runtime went away first: the process is about to end.
                Err(_) => Ok(Status::unavailable("shutting down").into_http()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use tokio::runtime::{Builder, Runtime};
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
        let (told, ran_on) = mpsc::channel();
        let inner = service_fn(move |_: Request<()>| {
            let told = told.clone();
            async move {
                told.send(name()).unwrap();
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
    fn who_stops_waiting_ends_the_call() {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }

        let (front, back) = (runtime("front"), runtime("back"));
        let (told, dropped) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let inner = service_fn(move |_: Request<()>| {
            let (told, begin) = (Told(told.clone()), begin.clone());
            async move {
                begin.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(told);
                Ok(Response::new(Body::empty()))
            }
        });
        let mut bulkhead = Bulkhead::new(inner, back.handle().clone());
        let call = front.spawn(bulkhead.call(Request::new(())));
        begun.recv().expect("the call begins");
        call.abort();
        dropped
            .recv_timeout(Duration::from_secs(10))
            .expect("the call goes on");
    }

    #[test]
    fn a_panic_ends_the_call_as_it_would_without_the_bulkhead() {
        let back = runtime("back");
        let inner = service_fn(
            async |_: Request<()>| -> Result<Response<Body>, Infallible> {
                panic!("this panic is part of a test")
            },
        );
        let bulkhead = Bulkhead::new(inner, back.handle().clone());
        let answered = back.block_on(back.spawn(bulkhead.oneshot(Request::new(()))));
        assert!(answered.unwrap_err().is_panic());
    }
}
