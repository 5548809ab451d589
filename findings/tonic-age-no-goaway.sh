#!/usr/bin/env bash
# tonic 0.14.9, server: with `max_connection_age_grace` set, a connection that is too old is never told to finish.
#
# The documentation says that after `max_connection_age` the server begins a graceful shutdown of the connection, and that
# `max_connection_age_grace` bounds how long it may take. With the grace set, no GOAWAY is sent at all: the server waits for the sum
# of both times and drops the connection. A client goes on to start calls on it until they are cut. Without the grace, GOAWAY comes.
#
# Output seen, for an open call, with an age of 1 s and a grace of 2 s:
#   age 1 s, no grace:   GOAWAY after 1 s
#   age 1 s, grace 2 s:  no GOAWAY, connection closed after 3 s
. "$(dirname "$0")/lib.sh"
python_packages h2==4.4.1
rust_package <<'EOF'
tokio = { version = "=1.54.1", features = ["macros", "net", "rt", "time"] }
tokio-stream = { version = "=0.1.19", features = ["net"] }
tonic = { version = "=0.14.9", default-features = false, features = ["codegen", "router", "server"] }
tonic-health = "=0.14.9"
EOF
cat > src/main.rs <<'EOF'
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// Serves health for at most a minute. Argument: the grace in seconds, or none.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let mut server = Server::builder().max_connection_age(Duration::from_secs(1));
    if let Some(grace) = std::env::args().nth(1) {
        server = server.max_connection_age_grace(Duration::from_secs(grace.parse().unwrap()));
    }
    let serve = server.add_service(health).serve_with_incoming(TcpListenerStream::new(listener));
    let _ = tokio::time::timeout(Duration::from_secs(60), serve).await;
}
EOF
cat > watch.py <<'EOF'
import socket
import sys
import time

import h2.config
import h2.connection

GOAWAY = 7

tcp = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
start = time.monotonic()
# h2 writes the request: Health/Watch of the whole server, a call that stays open. The answer is read frame by frame.
http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
http2.initiate_connection()
path = "/grpc.health.v1.Health/Watch"
pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
http2.send_headers(1, [*pseudo, ("content-type", "application/grpc"), ("te", "trailers")])
http2.send_data(1, bytes(5), end_stream=True)
tcp.sendall(http2.data_to_send())
frames = tcp.makefile("rb")
saw = "no GOAWAY, connection closed"
try:
    while head := frames.read(9):
        frames.read(int.from_bytes(head[:3], "big"))
        if head[3] == GOAWAY:
            saw = "GOAWAY"
            break
except ConnectionResetError:
    pass
print(f"{saw} after {time.monotonic() - start:.0f} s")
EOF
cargo build --quiet
probe() {
  start target/debug/probe "${@:2}"
  printf '%-20s %s\n' "$1" "$(venv/bin/python watch.py "$port")" | tee -a seen
  stop
}
probe 'age 1 s, no grace:'
probe 'age 1 s, grace 2 s:' 2
grep -q '^age 1 s, no grace: *GOAWAY' seen
grep -q '^age 1 s, grace 2 s: *no GOAWAY, connection closed' seen
