//! Validation at a steady rate, and the thread that its caller may have to itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    process::Command,
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

use super::{
    driver::{Client, Load, OK, Sample, Source},
    error::Result,
    fixture::VALIDATE,
    rounds::Figures,
};

/// So many streams, each with a call every so often: 2,000 calls per second.
const STREAMS: usize = 16;
const PACE: Duration = Duration::from_millis(8);
/// More than any work beside takes.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A caller that asks about tokens seen before, at a steady rate.
pub struct SteadyValidation {
    client: Client,
    tokens: Source,
    runtime: Handle,
}

impl SteadyValidation {
    /// With connections of its own, on the threads of that runtime.
    pub async fn connect(runtime: Handle, address: SocketAddr, tokens: &Source) -> Result<Self> {
        let client = runtime.spawn(Client::connect(address, 4)).await??;
        Ok(Self {
            client,
            tokens: Source::clone(tokens),
            runtime,
        })
    }

    /// Validates for that long; microseconds that half of the calls took at most, and that 99 of a hundred did.
    pub async fn micros(&self, duration: Duration) -> Result<Figures> {
        let sample = self.begin(Source::clone(&self.tokens), duration).await??;
        figures(&sample)
    }

    /// Validates from the begin of `work` to its end, and no longer; the same figures.
    pub async fn beside<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Figures)> {
        let is_done = Arc::new(AtomicBool::new(false));
        let (tokens, end) = (Source::clone(&self.tokens), Arc::clone(&is_done));
        let source: Source = Arc::new(move |stream, answer| match end.load(Ordering::Relaxed) {
            true => None,
            false => tokens(stream, answer),
        });
        let validation = self.begin(source, LONGEST);
        let done = work.await;
        is_done.store(true, Ordering::Relaxed);
        let sample = validation.await??;
        Ok((done?, figures(&sample)?))
    }

    fn begin(&self, source: Source, duration: Duration) -> JoinHandle<Result<Sample>> {
        let client = self.client.clone();
        let load = Load {
            path: VALIDATE,
            source,
            streams: STREAMS,
            duration,
            pace: Some(PACE),
        };
        self.runtime.spawn(async move { client.drive(&load).await })
    }
}

fn figures(sample: &Sample) -> Result<Figures> {
    sample.all_good()?;
    Ok(vec![sample.micros(OK, 0.5), sample.micros(OK, 0.99)])
}

/// A thread that gets a core before those of any other program, as if it had one of its own.
///
/// Callers of a service are on other machines, or have their share of this one. A caller that must wait until hashing
/// leaves it a core would measure that wait too, which is its own and not the service's.
pub struct Foremost(Option<Runtime>);

impl Foremost {
    /// Needs the privilege to ask for real-time scheduling (`CAP_SYS_NICE`), and `chrt` of util-linux.
    pub async fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let thread = runtime.spawn(async { rustix::thread::gettid() }).await?;
        let this = Self(Some(runtime));
        let thread = thread.as_raw_nonzero().to_string();
        let chrt = Command::new("chrt")
            .args(["--rr", "--pid", "1", &thread])
            .status()
            .await?;
        if !chrt.success() {
            return Err("not allowed to schedule a thread in real time".into());
        }
        Ok(this)
    }

    /// Where to spawn what shall run on it.
    pub fn handle(&self) -> Handle {
        let runtime = self.0.as_ref().expect("there until it is dropped");
        runtime.handle().clone()
    }
}

impl Drop for Foremost {
    /// A runtime must not be waited for on another one's thread.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
