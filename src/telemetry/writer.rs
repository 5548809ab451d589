//! Writes log lines without blocking: lines are dropped and counted when the buffer is full.
//!
//! The threads that answer calls log as well. A pipe whose reader has stopped (a log driver that hangs, a
//! paused terminal) must not stop them, so tracing-appender writes on a thread of its own.

use std::{
    io::{self, BufWriter, Write},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait to be written: some two megabytes.
const BUFFERED_LINES: usize = 8 * 1024;

/// How many bytes are written together when lines come faster than they can be written one by one.
const BATCH_BYTES: usize = 16 * 1024;

/// How long an exit waits for a stream that may be blocked. (The guard itself waits 1.1 s for the last lines.)
const EXIT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The counter of the process's log.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many log lines were dropped because the buffer was full.
pub fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}

/// Writes a last line on standard error, for when the log has ended. Gives up after a moment if the stream is blocked.
pub fn write_last_line(message: String) {
    with_timeout(move || {
        let _ = writeln!(io::stderr(), "{message}");
    });
}

/// A writer that never blocks, and the guard that writes the last lines when it is dropped.
pub(super) fn non_blocking(stream: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(BufWriter::with_capacity(BATCH_BYTES, stream))
}

/// Makes this counter the one that [`dropped_lines`] reads.
pub(super) fn count_drops_of_the_process(counter: ErrorCounter) {
    // There is no other: the subscriber is set once.
    let _ = DROPPED.set(counter);
}

/// Waits a moment until everything is written.
pub(super) fn flush(guard: WorkerGuard) {
    // When the buffer is full, the guard prints on standard output, which may be blocked as well.
    with_timeout(move || drop(guard));
}

/// Runs what may block, and stops waiting for it after [`EXIT_TIMEOUT`].
fn with_timeout(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
    let _ = finished.recv_timeout(EXIT_TIMEOUT);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender};

    use super::*;

    /// A stream whose reader has stopped, until the sending end of `resumed` is dropped.
    struct Blocked {
        resumed: Receiver<()>,
        written: Sender<usize>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.resumed.recv();
            let _ = self.written.send(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_dropped_and_counted_while_the_reader_has_stopped() {
        let (reader, resumed) = mpsc::channel();
        let (written, sizes) = mpsc::channel();
        let (mut writer, guard) = non_blocking(Blocked { resumed, written });
        let counter = writer.error_counter();
        // One batch is being written and the buffer is full: the others are dropped.
        let line = [b'x'; 1_024];
        let logged = BUFFERED_LINES + 2 * BATCH_BYTES / line.len() + 5;
        for _ in 0..logged {
            writer.write_all(&line).unwrap();
        }
        let dropped = counter.dropped_lines();
        assert!((5..logged).contains(&dropped), "{dropped} were dropped");

        drop(reader);
        drop(writer);
        flush(guard);
        let bytes: usize = sizes.iter().sum();
        assert_eq!(bytes, (logged - dropped) * line.len());
    }

    #[test]
    fn an_exit_does_not_wait_for_a_reader_that_has_stopped() {
        let (_reader, resumed) = mpsc::channel();
        let (written, _sizes) = mpsc::channel();
        let (mut writer, guard) = non_blocking(Blocked { resumed, written });
        writer.write_all(b"a line").unwrap();
        // It would wait for ever otherwise.
        flush(guard);
    }
}
