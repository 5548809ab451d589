#!/usr/bin/env bash
# tonic-health 0.14.9: `Watch` of a service that is not registered fails, instead of waiting for it.
#
# The gRPC health protocol says that `Watch` of an unknown service sends SERVICE_UNKNOWN and stays open, so that the client learns when
# the service appears. `Check` alone answers NOT_FOUND. tonic-health answers NOT_FOUND to both, so a client that starts first has to
# poll. grpcio-health-checking 1.85.1 (PyPI), called by the same client, does as the protocol says.
#
# Output seen, for a service that is registered some seconds after the call:
#   tonic-health            NOT_FOUND: service not registered
#   grpcio-health-checking  SERVICE_UNKNOWN, SERVING
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 grpcio-health-checking==1.85.1 protobuf==7.36.2
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
use tonic_health::ServingStatus;

/// Serves health for at most a minute. `late.Service` is registered after five seconds.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (reporter, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        reporter.set_service_status("late.Service", ServingStatus::Serving).await;
    });
    let serve = Server::builder().add_service(health).serve_with_incoming(TcpListenerStream::new(listener));
    let _ = tokio::time::timeout(Duration::from_secs(60), serve).await;
}
EOF
cat > watch.py <<'EOF'
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def watch(port):
    seen = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service="late.Service")
        try:
            for answer in health_pb2_grpc.HealthStub(channel).Watch(request, timeout=20):
                seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
                if seen[-1] == "SERVING":
                    break
        except grpc.RpcError as error:
            seen.append(f"{error.code().name}: {error.details()}")
    return ", ".join(seen)


print("tonic-health           ", watch(sys.argv[1]), flush=True)

servicer = health.HealthServicer()
server = grpc.server(ThreadPoolExecutor(4))
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
threading.Timer(1, servicer.set, ("late.Service", health_pb2.HealthCheckResponse.SERVING)).start()
print("grpcio-health-checking ", watch(port))
server.stop(None)
EOF
cargo build --quiet
start target/debug/probe
venv/bin/python watch.py "$port" | tee seen
grep -q '^tonic-health  *NOT_FOUND' seen
grep -q '^grpcio-health-checking  *SERVICE_UNKNOWN, SERVING$' seen
