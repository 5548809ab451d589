#!/usr/bin/env bash
# opentelemetry-exporter-otlp-proto-grpc 1.45.2 (PyPI): it looks for RetryInfo in the wrong trailer, and repeats what is too large.
#
# The OTLP specification ("OTLP/gRPC Throttling") lets a busy server answer UNAVAILABLE with google.rpc.RetryInfo in the details of the
# status, as gRPC libraries write them (`grpc-status-details-bin`); the client should wait that long. The exporter reads a trailer of
# another name, `google.rpc.retryinfo-bin`, finds nothing there and comes back after about one second. The HTTP exporter of the same release
# honours `Retry-After`. RESOURCE_EXHAUSTED should be final without RetryInfo ("Failures"), and must be for a message above the size limit
# ("OTLP/gRPC Request"). The exporter sends such a message again and again until its time-out, which delays all spans behind it.
#
# Output seen, for a delay of 3 s and a time-out of 6 s:
#   UNAVAILABLE, RetryInfo in the status details      next try after about 1 s
#   UNAVAILABLE, google.rpc.retryinfo-bin             next try after about 3 s
#   503 with Retry-After, HTTP exporter               next try after about 3 s
#   RESOURCE_EXHAUSTED, message above the limit       3 tries
. "$(dirname "$0")/lib.sh"
python_packages opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-grpc==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 \
  grpcio==1.85.3 grpcio-status==1.85.3
cat > probe.py <<'EOF'
import logging
import re
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

DELAY = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3))
arrivals, messages = [], []
log = logging.Handler()
log.emit = lambda record: messages.append(record.getMessage())
logging.getLogger().addHandler(log)


class Arrivals(grpc.ServerInterceptor):
    def intercept_service(self, continuation, details):
        arrivals.append(time.monotonic())
        return continuation(details)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Refuses the first request, in the way that `refuse` does it."""

    def Export(self, request, context):
        if len(arrivals) == 1:
            self.refuse(context)
        return trace_service_pb2.ExportTraceServiceResponse()


def in_details(context):
    packed = any_pb2.Any()
    packed.Pack(DELAY)
    code = grpc.StatusCode.UNAVAILABLE.value[0]
    context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code, message="busy", details=[packed])))


def in_own_trailer(context):
    context.set_trailing_metadata([("google.rpc.retryinfo-bin", DELAY.SerializeToString())])
    context.abort(grpc.StatusCode.UNAVAILABLE, "busy")


class HttpCollector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        arrivals.append(time.monotonic())
        self.send_response(503 if len(arrivals) == 1 else 200)
        self.send_header("Retry-After", "3")
        self.end_headers()

    def log_message(self, *_):
        pass


def grpc_server(collector, **options):
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[Arrivals()], options=list(options.items()))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, GrpcExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True, timeout=6)


def export_span(exporter, **attributes):
    arrivals.clear()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("example").start_span("login", attributes=attributes).end()
    provider.shutdown()


def delay(name, exporter):
    export_span(exporter)
    print(f"{name:49} next try after about {arrivals[1] - arrivals[0]:.0f} s")


for name, refuse in ("RetryInfo in the status details", in_details), ("google.rpc.retryinfo-bin", in_own_trailer):
    collector = Collector()
    collector.refuse = refuse
    server, exporter = grpc_server(collector)
    delay(f"UNAVAILABLE, {name}", exporter)
    server.stop(None)

server = HTTPServer(("127.0.0.1", 0), HttpCollector)
threading.Thread(target=server.serve_forever, daemon=True).start()
delay("503 with Retry-After, HTTP exporter", HttpExporter(endpoint=f"http://127.0.0.1:{server.server_port}/", timeout=6))

# gRPC refuses the message before the collector sees it.
server, exporter = grpc_server(Collector(), **{"grpc.max_receive_message_length": 1000})
export_span(exporter, comment="x" * 2000)
code = re.search(r"StatusCode\.(\w+)", messages[-1])[1]
print(f"{f'{code}, message above the limit':49} {len(arrivals)} tries")
server.stop(None)
EOF
GRPC_VERBOSITY=NONE venv/bin/python probe.py | tee seen
grep -q '^UNAVAILABLE, RetryInfo in the status details  *next try after about 1 s$' seen
grep -q '^UNAVAILABLE, google.rpc.retryinfo-bin  *next try after about 3 s$' seen
grep -q '^503 with Retry-After, HTTP exporter  *next try after about 3 s$' seen
grep -q '^RESOURCE_EXHAUSTED, message above the limit  *[2-9] tries$' seen
