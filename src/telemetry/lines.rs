//! Log lines on their way out: who logs never waits for who reads.
//!
//! The threads that answer validations log as well, and a pipe whose reader has stopped (a log driver that hangs, a
//! terminal that was paused) would stop them with it. So one thread writes for all. When it falls behind by
//! [`BUFFERED`] lines, further ones are dropped and counted.

use std::{
    io,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait to be written: some two megabytes.
const BUFFERED: usize = 8 * 1024;

/// How long an exit waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What the process has dropped: it has one log, like it has one standard error.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The end of the lines at which they are written.
#[derive(Debug)]
pub(super) struct Written(WorkerGuard);

/// Starts the thread that writes to `stream`, and returns the end at which lines are handed in.
pub(super) fn to(stream: impl io::Write + Send + 'static) -> (NonBlocking, Written) {
    let builder = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED)
        .lossy(true)
        .thread_name("log");
    let (lines, guard) = builder.finish(stream);
    (lines, Written(guard))
}

/// These are the lines of the process.
pub(super) fn count_dropped(lines: &NonBlocking) {
    // There is no second one: the subscriber is set once.
    let _ = DROPPED.set(lines.error_counter());
}

/// How many log lines were dropped, because they came faster than they were read.
pub fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}

impl Written {
    /// Waits until what was handed in is written, for a moment.
    pub(super) fn flush(self) {
        let Self(guard) = self;
        let (done, flushed) = mpsc::channel();
        // On a thread of its own: should the stream be stuck, so may be whoever gives the guard back.
        let _ = thread::Builder::new().spawn(move || {
            drop(guard);
            let _ = done.send(());
        });
        let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// A stream whose reader has stopped, until its other end is dropped.
    struct Stuck {
        stopped: mpsc::Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.stopped.recv();
            self.read.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_has_stopped() {
        let (reader, stopped) = mpsc::channel();
        let read = Arc::default();
        let (mut lines, written) = to(Stuck {
            stopped,
            read: Arc::clone(&read),
        });
        let dropped = lines.error_counter();
        // One is being written, so many wait for it, and the last finds no place.
        for _ in 0..BUFFERED + 2 {
            lines.write_all(b"a line\n").unwrap();
        }
        let dropped = dropped.dropped_lines();
        assert!((1..=2).contains(&dropped), "{dropped} were dropped");

        drop(reader);
        written.flush();
        let read = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        assert_eq!(read, "a line\n".repeat(BUFFERED + 2 - dropped));
    }
}
