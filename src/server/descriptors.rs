//! How many connections fit under the limits of the process on open files, whose soft limit is raised, and on memory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cores;

/// How many connections each port may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// On the gRPC port.
    pub grpc: usize,
    /// On the HTTP port.
    pub http: usize,
}

/// Connections on the HTTP port; its clients are few.
const HTTP_CONNECTIONS: usize = 512;

/// Files that are open besides: database, log, listeners, runtimes.
const OTHER_FILES: usize = 64;

/// The part of the memory that is for connections. The rest is for hashing, requests that are arriving, and what is known of
/// tokens and revocations.
const MEMORY_PART: usize = 3;

/// What a gRPC connection may cost beside its calls: header fields that are still arriving, the buffers of a frame in each
/// direction, and the state of HTTP/2.
const GRPC_CONNECTION: usize = 96 * 1024;

/// The same for HTTP/1.1.
const HTTP_CONNECTION: usize = 32 * 1024;

impl ConnectionLimits {
    /// Raises the soft limit on open files as far as the system allows, and fits `max_connections` under it together
    /// with `pool_size` connections to the database.
    pub(super) fn fit(max_connections: usize, pool_size: usize) -> Self {
        let wanted = Self {
            grpc: max_connections,
            http: HTTP_CONNECTIONS,
        };
        let limits = match cores::memory_limit() {
            Some(bytes) => wanted.within_memory(bytes),
            None => wanted,
        };
        if limits.grpc < wanted.grpc {
            tracing::warn!(
                connections = limits.grpc,
                "the memory of this process allows fewer connections than COUNTERSIGN_MAX_CONNECTIONS"
            );
        }
        let wanted = limits;
        let Some(files) = raise_soft_limit() else {
            return wanted;
        };
        let limits = wanted.within(files, OTHER_FILES + pool_size);
        if limits.grpc < wanted.grpc {
            tracing::warn!(
                open_files = files,
                connections = limits.grpc,
                "the limit on open files (ulimit -n) allows fewer connections than COUNTERSIGN_MAX_CONNECTIONS"
            );
        }
        limits
    }

    /// The limits with so many bytes of memory.
    fn within_memory(self, bytes: usize) -> Self {
        let left = (bytes / MEMORY_PART).saturating_sub(self.http * HTTP_CONNECTION);
        Self {
            grpc: self.grpc.min(left / GRPC_CONNECTION).max(1),
            ..self
        }
    }

    /// The limits with so many files, some of which are for other things. However few there are, each port gets some.
    fn within(self, files: usize, others: usize) -> Self {
        let left = files - others.min(files / 2);
        let http = self.http.min(left / 4).max(1);
        Self {
            grpc: self.grpc.min(left.saturating_sub(http)).max(1),
            http,
        }
    }
}

/// Raises the soft limit to the hard one; returns what holds then, `None` when there is no limit.
fn raise_soft_limit() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map(|files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: ConnectionLimits = ConnectionLimits {
        grpc: 10_000,
        http: 512,
    };

    #[test]
    fn all_open_files_together_stay_within_the_limit() {
        for files in [8, 64, 128, 1_024, 4_096, 20_000, 1 << 20] {
            let limits = WANTED.within(files, 80);
            let others = 80_usize.min(files / 2);
            assert!(limits.grpc + limits.http + others <= files, "{limits:?}");
            assert!(limits.grpc >= 1 && limits.http >= 1, "{limits:?}");
        }
    }

    #[test]
    fn connections_take_no_more_than_their_part_of_the_memory() {
        for megabytes in [64, 256, 512, 1_024, 2_048] {
            let bytes = megabytes << 20;
            let limits = WANTED.within_memory(bytes);
            let cost = limits.grpc * GRPC_CONNECTION + limits.http * HTTP_CONNECTION;
            assert!(
                limits.grpc == 1 || cost <= bytes / MEMORY_PART,
                "{limits:?}"
            );
        }
        // The numbers of docs/operations.md, and the limit of `deploy/`.
        for (megabytes, connections) in [(256, 739), (512, 1_649), (2_048, 7_111)] {
            let limits = WANTED.within_memory(megabytes << 20);
            assert_eq!(limits.grpc, connections);
        }
        assert_eq!(WANTED.within_memory(4 << 30), WANTED);
    }

    #[test]
    fn enough_files_leave_the_configured_limits() {
        assert_eq!(WANTED.within(20_000, 80), WANTED);
    }
}
