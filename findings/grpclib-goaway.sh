#!/usr/bin/env bash
# grpclib 0.4.9 (PyPI): a GOAWAY that lets the open calls finish ends them with "Connection lost".
#
# A server that wants to replace a connection (greatest age, restart, a proxy's limit of requests) sends GOAWAY with NO_ERROR and the
# number of the last stream that it still answers (RFC 9113, 6.8). Calls up to that number go on. grpclib closes the connection as
# soon as it reads the frame and the open calls fail, although their answers are on the way. grpcio 1.85.3 waits and gets the answer.
# A call that is not safe to repeat is then in doubt each time the server ends a connection in good order.
#
# Output seen, for a call on stream 1, GOAWAY with last stream 1, and the answer half a second later:
#   grpcio   answer of 0 bytes
#   grpclib  StreamTerminatedError: Connection lost
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 grpclib==0.4.9 h2==4.4.1
cat > goaway.py <<'EOF'
import asyncio
import socket
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase

PATH = "/example.Echo/Call"


class Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, _):
        return message

    def decode(self, data, _):
        return data


def answer_after_goaway(listener):
    """Serves one connection: GOAWAY for the first call, its answer half a second later."""
    tcp, _ = listener.accept()
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http2.initiate_connection()
    tcp.sendall(http2.data_to_send())
    while data := tcp.recv(65536):
        ended = [event.stream_id for event in http2.receive_data(data) if isinstance(event, h2.events.StreamEnded)]
        tcp.sendall(http2.data_to_send())
        for stream in ended:
            # h2 itself sends nothing after GOAWAY, so the frame is written by hand: length 8, type 7, last stream, NO_ERROR.
            tcp.sendall(bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + stream.to_bytes(4, "big") + bytes(4))
            time.sleep(0.5)
            http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            http2.send_data(stream, bytes(5))
            http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            try:
                tcp.sendall(http2.data_to_send())
            except ConnectionError:
                return


def server():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer_after_goaway, args=(listener,), daemon=True).start()
    return listener.getsockname()[1]


async def call_by_grpclib():
    channel = Channel("127.0.0.1", server(), codec=Bytes())
    try:
        async with channel.request(PATH, Cardinality.UNARY_UNARY, bytes, bytes, timeout=20) as stream:
            await stream.send_message(b"", end=True)
            return await stream.recv_message()
    finally:
        channel.close()


with grpc.insecure_channel(f"127.0.0.1:{server()}") as channel:
    print(f"grpcio   answer of {len(channel.unary_unary(PATH)(b'', timeout=20))} bytes")
try:
    print(f"grpclib  answer of {len(asyncio.run(call_by_grpclib()))} bytes")
except Exception as error:
    print(f"grpclib  {type(error).__name__}: {error}")
EOF
venv/bin/python goaway.py | tee seen
grep -q '^grpcio *answer of 0 bytes$' seen
grep -q '^grpclib *StreamTerminatedError: Connection lost$' seen
