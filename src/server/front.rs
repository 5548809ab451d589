//! The threads that serve connections and validate tokens, apart from those that do all the rest.
//!
//! No call that computes for long or waits for a database runs here (`grpc::Bulkhead` sends it away), so that a
//! validation never stands behind a login.

use std::{future::Future, io, panic};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_util::task::AbortOnDropHandle;

/// A runtime beside the one that the server runs on, with as many threads as the machine has cores.
pub(super) struct Front(Option<Runtime>);

impl Front {
    /// Starts its threads.
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        Ok(Self(Some(
            builder.enable_all().thread_name("front").build()?,
        )))
    }

    /// Takes a listener over, with all the connections that will come from it.
    pub(super) fn adopt(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let _here = self.runtime().enter();
        TcpListener::from_std(listener.into_std()?)
    }

    /// Runs a task on these threads, to its end or until the future is dropped.
    pub(super) async fn run<F>(&self, task: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let task = AbortOnDropHandle::new(self.runtime().spawn(task));
        task.await
            .unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    }

    const fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken when dropped")
    }
}

impl Drop for Front {
    /// Cuts off what still runs there.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A runtime cannot wait for another one to end.
            runtime.shutdown_background();
        }
    }
}
