//! How connections and calls are bounded, and how the server shuts down.

use std::{num::NonZeroUsize, time::Duration};

use super::{
    Profile,
    parse::{count, duration, number},
    problems::Problems,
    variables::Inputs,
};

/// The bounds on what a caller can use up, and the times of a shutdown. The defaults hold on a machine with 256 MB.
#[derive(Clone, Copy, Debug)]
pub struct ServingSettings {
    /// Connections that are open at the same time on the gRPC port; one more is closed at once.
    pub max_connections: NonZeroUsize,
    /// Streams that are open at the same time on one HTTP/2 connection (RFC 9113 section 5.1.2).
    pub max_concurrent_streams: u32,
    /// Bytes of one gRPC request message.
    pub max_message_size: usize,
    /// Bytes of the headers of one request (RFC 9113 section 6.5.2, `SETTINGS_MAX_HEADER_LIST_SIZE`).
    pub max_header_size: u32,
    /// How long a new connection may take until it has opened HTTP/2, or sent its first HTTP/1.1 request.
    pub handshake_timeout: Duration,
    /// How long one unary call may take, its request message included.
    pub request_timeout: Duration,
    /// How old a connection may become before the server asks the client to open another; varied by ±10 %.
    pub max_connection_age: Duration,
    /// How long the calls on such a connection may go on.
    pub max_connection_age_grace: Duration,
    /// How long the ports stay open after health says NOT_SERVING.
    pub shutdown_delay: Duration,
    /// How long running calls may finish after the ports have been closed.
    pub drain_timeout: Duration,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Reads the settings. `profile` decides the default of the shutdown delay.
pub(super) fn read(profile: Profile, inputs: &Inputs, problems: &mut Problems) -> ServingSettings {
    let default_delay = match profile {
        Profile::Development | Profile::Test => Duration::ZERO,
        Profile::Production => 5 * SECOND,
    };
    ServingSettings {
        max_connections: problems.read(&inputs.max_connections, count(1_000_000)),
        max_concurrent_streams: problems.read(&inputs.max_concurrent_streams, number(1..=65_536)),
        max_message_size: problems.read(&inputs.max_message_size, number(4096..=16 << 20)),
        max_header_size: problems.read(&inputs.max_header_size, number(8192..=1 << 20)),
        handshake_timeout: problems.read(
            &inputs.handshake_timeout,
            duration(SECOND / 10..=60 * SECOND),
        ),
        request_timeout: problems.read(&inputs.request_timeout, duration(SECOND / 10..=HOUR)),
        max_connection_age: problems.read(&inputs.max_connection_age, duration(SECOND..=24 * HOUR)),
        max_connection_age_grace: problems.read(
            &inputs.max_connection_age_grace,
            duration(Duration::ZERO..=HOUR),
        ),
        shutdown_delay: problems
            .read_if_given(&inputs.shutdown_delay, duration(Duration::ZERO..=HOUR))
            .unwrap_or(default_delay),
        drain_timeout: problems.read(&inputs.drain_timeout, duration(Duration::ZERO..=HOUR)),
    }
}
