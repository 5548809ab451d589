#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI): a padded DATA frame of HTTP/2 fails the call, in its client and in its server.
#
# RFC 9113 (6.1) lets a peer pad DATA frames to hide the length of a message, and the gRPC protocol takes nothing away from that. gRPC's
# own core, which the libraries for C++ and Python share, refuses every DATA frame with the flag PADDED: the client makes INTERNAL
# of the answer, the server resets the stream with PROTOCOL_ERROR. grpclib 0.4.9 (PyPI) and @grpc/grpc-js 1.14.7 (npm) take
# the frame, so what a padding gateway does shows only with the first program on the core.
#
# Output seen:
#   answer plain    grpcio client   hello
#   answer padded   grpcio client   INTERNAL: Stream removed (unsupported data flags: 0x08 stream: 3)
#   answer plain    grpclib client  hello
#   answer padded   grpclib client  hello
#   request plain   grpcio server   grpc-status 0
#   request padded  grpcio server   stream reset, error 1
#   answer plain    grpc-js client  hello
#   answer padded   grpc-js client  hello
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 grpclib==0.4.9 h2==4.4.1
node_packages @grpc/grpc-js@1.14.7
cat > server.py <<'EOF'
"""Answers each gRPC call with "hello", on the path /example.Echo/Padded with 16 bytes of padding. One connection at a time."""
import socket
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded


def serve(peer):
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    peer.sendall(connection.data_to_send())
    padding = {}
    while data := peer.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                padding[event.stream_id] = 16 if dict(event.headers)[":path"].endswith("Padded") else None
            elif isinstance(event, StreamEnded):
                stream = event.stream_id
                connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                connection.send_data(stream, b"\0\0\0\0\5hello", pad_length=padding[stream])
                connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        peer.sendall(connection.data_to_send())


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
EOF
cat > probe.py <<'EOF'
import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpclib.client import Channel
from grpclib.const import Cardinality
from h2.connection import H2Connection
from h2.events import StreamEnded, StreamReset, TrailersReceived

port = int(sys.argv[1])
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    for name in "Plain", "Padded":
        try:
            seen = channel.unary_unary(f"/example.Echo/{name}")(b"", timeout=20).decode()
        except grpc.RpcError as error:
            seen = f"{error.code().name}: {error.details()}"
        print(f"answer {name.lower():7}  grpcio client   {seen}")


class Bytes(bytes):
    SerializeToString = bytes.__bytes__
    FromString = bytes


async def by_grpclib():
    channel = Channel("127.0.0.1", port)
    for name in "Plain", "Padded":
        async with channel.request(f"/example.Echo/{name}", Cardinality.UNARY_UNARY, Bytes, Bytes, timeout=20) as stream:
            await stream.send_message(Bytes(), end=True)
            print(f"answer {name.lower():7}  grpclib client  {(await stream.recv_message()).decode()}")
    channel.close()


asyncio.run(by_grpclib())


class Echo(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


def request(port, padding):
    """What a server says to a request whose message has `padding`."""
    connection = H2Connection()
    connection.initiate_connection()
    pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/example.Echo/Call")]
    connection.send_headers(1, [*pseudo, ("te", "trailers"), ("content-type", "application/grpc")])
    connection.send_data(1, b"\0\0\0\0\5hello", end_stream=True, pad_length=padding)
    seen = None
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(connection.data_to_send())
        while data := peer.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, TrailersReceived):
                    seen = f"grpc-status {dict(event.headers)[b'grpc-status'].decode()}"
                elif isinstance(event, StreamReset):
                    return f"stream reset, error {int(event.error_code)}"
                elif isinstance(event, StreamEnded):
                    return seen
            peer.sendall(connection.data_to_send())


server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
for name, padding in ("plain", None), ("padded", 16):
    print(f"request {name:6}  grpcio server   {request(port, padding)}")
server.stop(0)
EOF
cat > probe.mjs <<'EOF'
import grpc from "@grpc/grpc-js";

const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure());
const bytes = (value) => value;
for (const name of ["Plain", "Padded"]) {
  const seen = await new Promise((resolve) => {
    const done = (error, answer) => resolve(error?.message ?? answer.toString());
    client.makeUnaryRequest(`/example.Echo/${name}`, bytes, bytes, Buffer.alloc(0), done);
  });
  console.log(`answer ${name.toLowerCase().padEnd(7)}  grpc-js client  ${seen}`);
}
process.exit(0);
EOF
start venv/bin/python server.py
{ venv/bin/python probe.py "$port"; node probe.mjs "$port"; } | tee seen
[ "$(grep -c '^answer plain  *grp[a-z-]* client  *hello$' seen)" = 3 ]
[ "$(grep -c '^answer padded  *grpc\(lib\|-js\) client  *hello$' seen)" = 2 ]
grep -q '^answer padded  *grpcio client  *INTERNAL: .*unsupported data flags' seen
grep -q '^request plain  *grpcio server  *grpc-status 0$' seen
grep -q '^request padded  *grpcio server  *stream reset, error 1$' seen
