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
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Metrics
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Traces
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service import Replica, outcome

LOGIN = "countersign.auth.v1.AuthService/Login"
# The steps of a login, and the step in which each happens.
STEPS = {"password hash": LOGIN, "database": LOGIN, "pool wait": "database", "UPDATE users": "database", "COMMIT": "database"}
LOGINS, VALIDATIONS = 5, 300
SLOW_SECONDS = 30
# Far above what a call takes, far below what it would take if it waited for the receiver.
LONGEST_CALL_SECONDS = 3
LONGEST_STOP_SECONDS = 20


class Receiver:
    """An OTLP receiver that answers after `delay` seconds and keeps what it is sent, decoded by OpenTelemetry's own messages."""

    def __init__(self, delay: float):
        self.received, self.released = [], threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(8))
        for signal, message in ("trace", Traces), ("metrics", Metrics):
            service = f"opentelemetry.proto.collector.{signal}.v1.{signal.capitalize()}Service"
            handler = grpc.unary_unary_rpc_method_handler(lambda request, _: self.export(request, delay), message.FromString)
            self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def export(self, request: Traces | Metrics, delay: float) -> bytes:
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


def spans_of(received: list) -> list[Span]:
    return [span for message in received if isinstance(message, Traces)
            for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]


def words(attributes) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in attributes if attribute.value.string_value}


def faults_of_logins(spans: list[Span]) -> list[str]:
    """Each login is a trace whose steps are where they belong."""
    faults, by_id = [], {(span.trace_id, span.span_id): span for span in spans}
    logins = [span for span in spans if span.name == LOGIN and span.kind == Span.SPAN_KIND_SERVER]
    if len(logins) != LOGINS + 1:
        faults.append(f"{len(logins)} spans of {LOGINS + 1} logins")
    for login in logins:
        told = words(login.attributes)
        if (told.get("rpc.system.name"), told.get("rpc.method"), told.get("rpc.status_code")) != ("grpc", LOGIN, "OK"):
            faults.append(f"attributes of a login: {told}")
        steps = [span for span in spans if span.trace_id == login.trace_id and span is not login]
        faults += [f"a login without {step}" for step in STEPS if step not in [span.name for span in steps]]
        for span in steps:
            parent = by_id.get((span.trace_id, span.parent_span_id))
            if parent is None or STEPS.get(span.name, parent.name) != parent.name:
                faults.append(f"{span.name} is in {parent and parent.name}")
            if not login.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano:
                faults.append(f"the times of {span.name}")
    return faults


def faults_of_durations(received: list) -> list[str]:
    """The histogram of OpenTelemetry's conventions holds every call."""
    metrics = [metric for message in received if isinstance(message, Metrics)
               for resource in message.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics]
    durations = [metric for metric in metrics if metric.name == "rpc.server.call.duration" and metric.unit == "s"]
    if not durations:
        return [f"no rpc.server.call.duration in seconds among {sorted({metric.name for metric in metrics})}"]
    # What was sent last, at the end of the process, counts all.
    counts = {words(point.attributes).get("rpc.method"): point.count for point in durations[-1].histogram.data_points
              if words(point.attributes).get("rpc.system.name") == "grpc" and words(point.attributes).get("rpc.status_code") == "OK"}
    wanted = {LOGIN: LOGINS + 1, "countersign.auth.v1.AuthService/ValidateToken": VALIDATIONS}
    return [f"{method}: {counts.get(method)} durations instead of {count}" for method, count in wanted.items()
            if counts.get(method) != count]


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
    spans = spans_of(good.received)
    faults += faults_of_logins(spans) + faults_of_durations(good.received)
    if not slow.received:
        faults.append("the slow receiver was sent nothing")
    print("\n".join(faults) or f"{len(spans)} spans of whole traces, the durations of all calls, and no call waited for a receiver")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
