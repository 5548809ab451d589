#!/usr/bin/env bash
# @connectrpc/connect-node 2.1.2 (npm): a `grpc-message` that is not percent-encoded UTF-8 costs the call its status code.
#
# The gRPC protocol (PROTOCOL-HTTP2, "Responses") wants invalid values of `grpc-message` taken: implementations "MUST NOT error or throw
# away the message" and may show it undecoded. connect-node ends such a call with Unknown and "URI malformed", so that NOT_FOUND and its
# message are lost. A bare percent sign comes from proxies whose refusals are written by hand (`add_header grpc-message "100% of
# the quota"` in nginx), %E9 from a server that encodes Latin-1. grpcio 1.85.3, grpclib 0.4.9 (PyPI) and @grpc/grpc-js
# 1.14.7 (npm) keep the code and what they can of the message.
#
# Output seen, for the messages caf%C3%A9 (Utf8), caf%E9 (Latin1) and "100% of the quota" (Bare):
#   Utf8    grpcio        NOT_FOUND: café
#   Latin1  grpcio        NOT_FOUND: café
#   Bare    grpcio        NOT_FOUND: 100% of the quota
#   Utf8    grpclib       NOT_FOUND: café
#   Latin1  grpclib       NOT_FOUND: caf and U+FFFD
#   Bare    grpclib       NOT_FOUND: 100% of the quota
#   Utf8    grpc-js       NOT_FOUND: café
#   Utf8    connect-node  NotFound: café
#   Latin1  grpc-js       NOT_FOUND: caf%E9
#   Latin1  connect-node  Unknown: URI malformed
#   Bare    grpc-js       NOT_FOUND: 100% of the quota
#   Bare    connect-node  Unknown: URI malformed
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 grpclib==0.4.9
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > server.mjs <<'EOF'
// Answers each gRPC call with NOT_FOUND and the message that the path names.
import { createServer } from "node:http2";

const messages = { Utf8: "caf%C3%A9", Latin1: "caf%E9", Bare: "100% of the quota" };
const server = createServer().on("stream", (stream, headers) => {
  const message = messages[headers[":path"].split("/").pop()];
  const refusal = { "content-type": "application/grpc", "grpc-status": "5", "grpc-message": message };
  stream.respond({ ":status": 200, ...refusal }, { endStream: true });
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
names = "Utf8", "Latin1", "Bare"
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    for name in names:
        try:
            channel.unary_unary(f"/example.Echo/{name}")(b"", timeout=20)
        except grpc.RpcError as error:
            print(f"{name:6}  grpcio        {error.code().name}: {error.details()}")


class Bytes(bytes):
    SerializeToString = bytes.__bytes__
    FromString = bytes


async def by_grpclib():
    channel = Channel("127.0.0.1", port)
    for name in names:
        try:
            async with channel.request(f"/example.Echo/{name}", Cardinality.UNARY_UNARY, Bytes, Bytes, timeout=20) as stream:
                await stream.send_message(Bytes(), end=True)
                await stream.recv_message()
        except GRPCError as error:
            print(f"{name:6}  grpclib       {error.status.name}: {error.message}")
    channel.close()


asyncio.run(by_grpclib())
EOF
cat > probe.mjs <<'EOF'
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const names = ["Utf8", "Latin1", "Bare"];
const address = `127.0.0.1:${process.argv[2]}`;
const type = ".google.protobuf.Empty";
const method = names.map((name) => ({ name, inputType: type, outputType: type }));
const dependency = ["google/protobuf/empty.proto"];
const service = [{ name: "Echo", method }];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");
const byConnect = createClient(Echo, createGrpcTransport({ baseUrl: `http://${address}` }));
const byGrpcJs = new grpc.Client(address, grpc.credentials.createInsecure());
const bytes = (value) => value;

for (const name of names) {
  const error = await new Promise((resolve) => {
    byGrpcJs.makeUnaryRequest(`/example.Echo/${name}`, bytes, bytes, Buffer.alloc(0), resolve);
  });
  console.log(`${name.padEnd(6)}  grpc-js       ${grpc.status[error.code]}: ${error.details}`);
  const other = await byConnect[name.toLowerCase()]({}, { timeoutMs: 20000 }).catch((error) => error);
  console.log(`${name.padEnd(6)}  connect-node  ${Code[other.code]}: ${other.rawMessage}`);
}
process.exit(0);
EOF
start node server.mjs
{ venv/bin/python probe.py "$port"; node probe.mjs "$port"; } | tee seen
[ "$(grep -c '^\(Latin1\|Bare\)  *grpc\(io\|lib\|-js\)  *NOT_FOUND: ' seen)" = 6 ]
grep -q '^Utf8  *connect-node  *NotFound: café$' seen
[ "$(grep -c '^\(Latin1\|Bare\)  *connect-node  *Unknown: URI malformed$' seen)" = 2 ]
