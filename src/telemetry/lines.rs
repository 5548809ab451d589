//! Log lines on their way out: who logs never waits for who reads.
//!
//! The threads that answer validations log as well, and a pipe whose reader has stopped (a log driver that hangs, a
//! terminal that was paused) would stop them with it. So one thread writes for all. When it falls behind by
//! [`BUFFERED`] lines, further ones are dropped; those, and what the stream does not take, are counted.

use std::{
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait to be written: some two megabytes.
const BUFFERED: usize = 8 * 1024;

/// What is written at once, in bytes.
const BATCH: usize = 16 * 1024;

/// How long an exit waits for a stream that may be stuck. (The guard itself waits 1.1 s for the last lines.)
const LAST_WAIT: Duration = Duration::from_millis(1_500);

/// Of the log of the process: it has one, as it has one standard error.
static DROPPED: OnceLock<Dropped> = OnceLock::new();

/// How many log lines were dropped, because they came faster than they were read or could not be written.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, Dropped::count)
}

/// A last word on standard error, for when there is no log any more. It is not waited for any longer than that.
pub fn say_last(message: String) {
    briefly(move || {
        let _ = writeln!(io::stderr(), "{message}");
    });
}

/// A log: where its lines are handed in, and who writes them.
pub(super) struct Log {
    /// Takes lines without waiting.
    pub(super) writer: NonBlocking,
    dropped: Dropped,
    guard: WorkerGuard,
}

/// Waits for the last lines.
#[derive(Debug)]
pub(super) struct Flush(WorkerGuard);

struct Dropped {
    /// Lines that found no place among those that wait.
    crowded_out: ErrorCounter,
    /// Lines that the stream did not take.
    unwritten: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread that writes to `stream`.
    pub(super) fn to(stream: impl Write + Send + 'static) -> Self {
        let unwritten = Arc::default();
        let builder = NonBlockingBuilder::default()
            .buffered_lines_limit(BUFFERED)
            .lossy(true)
            .thread_name("log");
        let (writer, guard) = builder.finish(Batch {
            stream,
            text: Vec::with_capacity(BATCH),
            lines: 0,
            unwritten: Arc::clone(&unwritten),
        });
        let dropped = Dropped {
            crowded_out: writer.error_counter(),
            unwritten,
        };
        Self {
            writer,
            dropped,
            guard,
        }
    }

    /// Makes it the one whose losses [`dropped_lines`] tells.
    pub(super) fn of_the_process(self) -> Flush {
        // There is no other: the subscriber is set once.
        let _ = DROPPED.set(self.dropped);
        Flush(self.guard)
    }
}

impl Flush {
    /// Waits until what was handed in is written, for a moment. What nobody has read by then is lost.
    pub(super) fn wait(self) {
        let Self(guard) = self;
        // The guard prints on standard output when even its message finds no place.
        briefly(move || drop(guard));
    }
}

impl Dropped {
    fn count(&self) -> u64 {
        let crowded_out = u64::try_from(self.crowded_out.dropped_lines()).unwrap_or(u64::MAX);
        crowded_out.saturating_add(self.unwritten.load(Ordering::Relaxed))
    }
}

/// Does what may wait for a stream that is stuck, and waits for it no longer than [`LAST_WAIT`].
fn briefly(work: impl FnOnce() + Send + 'static) {
    let (done, over) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
    let _ = over.recv_timeout(LAST_WAIT);
}

/// Writes together what comes together, and counts what it cannot write. Each write is one line.
struct Batch<W> {
    stream: W,
    text: Vec<u8>,
    lines: u64,
    unwritten: Arc<AtomicU64>,
}

impl<W: Write> Write for Batch<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(line);
        self.lines += 1;
        if self.text.len() >= BATCH {
            self.flush()?;
        }
        Ok(line.len())
    }

    /// Never fails: whoever wrote the lines has gone on, and these will not be written by trying again.
    fn flush(&mut self) -> io::Result<()> {
        if self.stream.write_all(&self.text).is_err() {
            self.unwritten.fetch_add(self.lines, Ordering::Relaxed);
        }
        self.text.clear();
        self.lines = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender};

    use super::*;

    /// A stream whose reader has stopped, until its other end is dropped.
    struct Stuck {
        stopped: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.stopped.recv();
            self.read.send(bytes.to_owned()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A stream that nobody can write to any more.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_has_stopped() {
        let (reader, stopped) = mpsc::channel();
        let (read, reads) = mpsc::channel();
        let mut log = Log::to(Stuck { stopped, read });
        // One batch is being written and so many lines wait for it: the others find no place.
        let line = [b'x'; 1_024];
        let handed_in = BUFFERED + BATCH / line.len() + 5;
        for _ in 0..handed_in {
            log.writer.write_all(&line).unwrap();
        }
        let dropped = usize::try_from(log.dropped.count()).unwrap();
        assert!((5..handed_in).contains(&dropped), "{dropped} were dropped");

        drop(reader);
        let mut missing = (handed_in - dropped) * line.len();
        while missing > 0 {
            missing -= reads.recv().unwrap().len();
        }
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (_, stopped) = mpsc::channel();
        let (read, reads) = mpsc::channel();
        let mut log = Log::to(Stuck { stopped, read });
        for line in ["one\n", "two\n"] {
            log.writer.write_all(line.as_bytes()).unwrap();
        }
        Flush(log.guard).wait();
        let read: Vec<_> = reads.try_iter().flatten().collect();
        assert_eq!(read, b"one\ntwo\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let mut log = Log::to(Broken);
        for _ in 0..3 {
            log.writer.write_all(b"a line\n").unwrap();
        }
        drop(log.guard);
        assert_eq!(log.dropped.count(), 3);
    }
}
