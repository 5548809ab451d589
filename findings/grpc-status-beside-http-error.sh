#!/usr/bin/env bash
# grpclib 0.4.9 (PyPI) and @connectrpc/connect-node 2.1.2 (npm): the HTTP status of an answer hides its `grpc-status` and message.
#
# gRPC maps HTTP statuses to its own codes only for answers without `grpc-status`; "if grpc-status was provided, it must be used"
# (doc/http-grpc-status-mapping.md). A gateway that sets both, so that plain HTTP tools count its refusals too, reaches grpcio 1.85.3 and
# @grpc/grpc-js 1.14.7 with its own code and message. grpclib and connect-node see the HTTP status alone: "quota used up" becomes
# UNAVAILABLE, which clients repeat, and the message is lost.
#
# Output seen, for HTTP 503 with `grpc-status: 8` (RESOURCE_EXHAUSTED) and the message "quota used up":
#   HTTP 200  grpcio        RESOURCE_EXHAUSTED: quota used up
#   HTTP 503  grpcio        RESOURCE_EXHAUSTED: quota used up
#   HTTP 200  grpclib       RESOURCE_EXHAUSTED: quota used up
#   HTTP 503  grpclib       UNAVAILABLE: Received :status = '503'
#   HTTP 200  grpc-js       RESOURCE_EXHAUSTED: quota used up
#   HTTP 200  connect-node  ResourceExhausted: quota used up
#   HTTP 503  grpc-js       RESOURCE_EXHAUSTED: quota used up
#   HTTP 503  connect-node  Unavailable: HTTP 503
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 grpclib==0.4.9
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > server.mjs <<'EOF'
// Refuses each gRPC call, on the path /example.Echo/Http503 with an HTTP status other than 200.
import { createServer } from "node:http2";

const server = createServer().on("stream", (stream, headers) => {
  const refusal = { "content-type": "application/grpc", "grpc-status": "8", "grpc-message": "quota used up" };
  stream.respond({ ":status": Number(headers[":path"].slice(-3)), ...refusal }, { endStream: true });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
EOF
cat > probe.py <<'EOF'
import asyncio
import sys

import grpc
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

port = int(sys.argv[1])
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    for status in 200, 503:
        try:
            channel.unary_unary(f"/example.Echo/Http{status}")(b"", timeout=20)
        except grpc.RpcError as error:
            print(f"HTTP {status}  grpcio        {error.code().name}: {error.details()}")


class Bytes(bytes):
    SerializeToString = bytes.__bytes__
    FromString = bytes


async def by_grpclib():
    channel = Channel("127.0.0.1", port)
    for status in 200, 503:
        try:
            async with channel.request(f"/example.Echo/Http{status}", Cardinality.UNARY_UNARY, Bytes, Bytes, timeout=20) as stream:
                await stream.send_message(Bytes(), end=True)
                await stream.recv_message()
        except GRPCError as error:
            print(f"HTTP {status}  grpclib       {error.status.name}: {error.message}")
    channel.close()


asyncio.run(by_grpclib())
EOF
cat > probe.mjs <<'EOF'
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const address = `127.0.0.1:${process.argv[2]}`;
const type = ".google.protobuf.Empty";
const method = [200, 503].map((status) => ({ name: `Http${status}`, inputType: type, outputType: type }));
const dependency = ["google/protobuf/empty.proto"];
const service = [{ name: "Echo", method }];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");
const byConnect = createClient(Echo, createGrpcTransport({ baseUrl: `http://${address}` }));
const byGrpcJs = new grpc.Client(address, grpc.credentials.createInsecure());
const bytes = (value) => value;

for (const status of [200, 503]) {
  const error = await new Promise((resolve) => {
    byGrpcJs.makeUnaryRequest(`/example.Echo/Http${status}`, bytes, bytes, Buffer.alloc(0), resolve);
  });
  console.log(`HTTP ${status}  grpc-js       ${grpc.status[error.code]}: ${error.details}`);
  const other = await byConnect[`http${status}`]({}, { timeoutMs: 20000 }).catch((error) => error);
  console.log(`HTTP ${status}  connect-node  ${Code[other.code]}: ${other.rawMessage}`);
}
process.exit(0);
EOF
start node server.mjs
{ venv/bin/python probe.py "$port"; node probe.mjs "$port"; } | tee seen
[ "$(grep -ci '^HTTP 200  .* resource_\?exhausted: quota used up$' seen)" = 4 ]
[ "$(grep -c '^HTTP 503  grpc\(io\|-js\)  *RESOURCE_EXHAUSTED: quota used up$' seen)" = 2 ]
grep -q '^HTTP 503  grpclib  *UNAVAILABLE: ' seen
grep -q '^HTTP 503  connect-node  *Unavailable: ' seen
