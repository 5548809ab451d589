//! How connections and calls are bounded, and how the server shuts down.

use std::{num::NonZeroUsize, time::Duration};

use super::{profile::Profile, variables::Values};

/// The bounds on what a caller can use up, and the times of a shutdown. The defaults hold on a machine with 256 MB.
#[derive(Clone, Copy, Debug)]
pub struct ServingSettings {
    /// Connections that are open at the same time on the gRPC port; one more is closed at once.
    pub max_connections: NonZeroUsize,
    /// How many of them one peer address may hold, trusted proxies apart; `None`: a quarter. As many as `max_connections`: all.
    pub max_connections_per_peer: Option<NonZeroUsize>,
    /// How long a connection is kept on which there is no call.
    pub connection_idle_timeout: Duration,
    /// Streams that are open at the same time on one HTTP/2 connection (RFC 9113 section 5.1.2).
    pub max_concurrent_streams: u32,
    /// Calls that hash or use the database at the same time; one more is refused.
    pub max_concurrent_calls: NonZeroUsize,
    /// Bytes of one gRPC request message.
    pub max_message_size: usize,
    /// Bytes of all gRPC requests that are still arriving, headers included.
    pub max_request_memory: usize,
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

/// The default of the shutdown delay in production, where a balancer has to notice first.
const PRODUCTION_SHUTDOWN_DELAY: Duration = Duration::from_secs(5);

impl ServingSettings {
    /// Groups them.
    pub(super) fn of(values: &Values) -> Self {
        let default_delay = match values.profile {
            Profile::Development | Profile::Test => Duration::ZERO,
            Profile::Production => PRODUCTION_SHUTDOWN_DELAY,
        };
        Self {
            max_connections: values.max_connections.0,
            max_connections_per_peer: values.max_connections_per_peer.map(|number| number.0),
            connection_idle_timeout: values.connection_idle_timeout.0,
            max_concurrent_streams: values.max_concurrent_streams.0,
            max_concurrent_calls: values.max_concurrent_calls.0,
            max_message_size: values.max_message_size.0,
            max_request_memory: values.max_request_memory.0,
            max_header_size: values.max_header_size.0,
            handshake_timeout: values.handshake_timeout.0,
            request_timeout: values.request_timeout.0,
            max_connection_age: values.max_connection_age.0,
            max_connection_age_grace: values.max_connection_age_grace.0,
            shutdown_delay: values.shutdown_delay.map_or(default_delay, |span| span.0),
            drain_timeout: values.drain_timeout.0,
        }
    }
}
