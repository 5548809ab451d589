"""Sends traces and metrics to a receiver that works, one that is slow, one that is silent and one that is away: no call may wait for it.

    telemetry.py BINARY
"""

import socket
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from service import Replica, outcome

SERVICES = ["opentelemetry.proto.collector.trace.v1.TraceService", "opentelemetry.proto.collector.metrics.v1.MetricsService"]
# Spans of a login: the call, the steps in it, and the wait for a connection.
SPANS = [b"countersign.auth.v1.AuthService/Login", b"password hash", b"database", b"pool wait"]
# The histogram of calls, with the attributes of OpenTelemetry's conventions.
METRICS = [b"rpc.server.call.duration", b"rpc.system.name", b"rpc.method", b"rpc.status_code"]
LOGINS, VALIDATIONS = 5, 300
SLOW_SECONDS = 30
# Far above what a call takes, far below what it would take if it waited for the receiver.
LONGEST_CALL_SECONDS = 3
LONGEST_STOP_SECONDS = 20


class Receiver:
    """An OTLP receiver that keeps the bytes of what it is sent, after `delay` seconds."""

    def __init__(self, delay: float):
        self.received, self.released = [], threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.unary_unary_rpc_method_handler(lambda request, _: self.export(request, delay))
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"Export": handler}) for service in SERVICES])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def export(self, request: bytes, delay: float) -> bytes:
        self.received.append(request)
        self.released.wait(delay)
        return b""  # An empty response: everything was taken.

    def close(self):
        self.released.set()
        self.server.stop(0)


class Silent:
    """Takes connections and never says anything."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


class Away(Silent):
    """Nobody listens on its port."""

    def __init__(self):
        super().__init__()
        self.close()


def run(binary: str, folder: Path, name: str, receiver) -> list[str]:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}"} if receiver else {}
    replica = Replica(binary, folder, name, COUNTERSIGN_DATABASE_URL=f"sqlite://{folder}/{name}.db",
                      COUNTERSIGN_ARGON2_MEMORY_KIB="1024", COUNTERSIGN_ARGON2_ITERATIONS="1", **variables).start()
    client, durations, results = replica.client(), [], set()

    def timed(call, *arguments):
        start = time.monotonic()
        results.add(outcome(call, *arguments))
        durations.append(time.monotonic() - start)

    client.register("ada@example.org")
    for _ in range(LOGINS):
        timed(client.login, "ada@example.org")
    token = client.login("ada@example.org").access_token
    for _ in range(VALIDATIONS):
        timed(client.validate, token)
    start = time.monotonic()
    code = replica.stop()
    stopped = time.monotonic() - start
    print(f"{name:10} median {statistics.median(durations) * 1e6:6.0f} us, slowest {max(durations) * 1e3:5.0f} ms, "
          f"stopped in {stopped:4.1f} s")
    faults = []
    if results != {"OK"} or code != 0:
        faults.append(f"{name}: calls ended with {results}, the process with {code}")
    if max(durations) > LONGEST_CALL_SECONDS or stopped > LONGEST_STOP_SECONDS:
        faults.append(f"{name}: something waited for the receiver")
    return faults


def main():
    binary = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        good, slow = Receiver(0), Receiver(SLOW_SECONDS)
        receivers = {"none": None, "good": good, "slow": slow, "silent": Silent(), "away": Away()}
        faults = []
        for name, receiver in receivers.items():
            faults += run(binary, Path(temporary), name, receiver)
        for receiver in receivers.values():
            if receiver:
                receiver.close()
    sent = b"".join(good.received)
    faults += [f"no span or metric named {name.decode()}" for name in SPANS + METRICS if name not in sent]
    if not slow.received:
        faults.append("the slow receiver was sent nothing")
    print("\n".join(faults) or f"traces and metrics: {len(sent)} bytes received, and no call waited for a receiver")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
