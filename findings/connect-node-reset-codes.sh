#!/usr/bin/env bash
# @connectrpc/connect-node 2.1.2 (npm): every HTTP/2 reset of a call but CANCEL is INTERNAL, also the one that says "try again".
#
# The gRPC protocol maps REFUSED_STREAM to UNAVAILABLE, ENHANCE_YOUR_CALM to RESOURCE_EXHAUSTED and INADEQUATE_SECURITY to
# PERMISSION_DENIED. connect-node has that table in its code, but when the reset comes before any header, the error event of Node.js 20
# arrives first and is INTERNAL. A server or proxy refuses streams while it shuts down or when there are too many; it promises that
# nothing was done (RFC 9113, 8.7), and a client that repeats UNAVAILABLE calls does not repeat this one. @grpc/grpc-js 1.14.7 follows
# the table.
#
# Output seen:
#   REFUSED_STREAM       connect-node  Internal           grpc-js  UNAVAILABLE
#   ENHANCE_YOUR_CALM    connect-node  Internal           grpc-js  RESOURCE_EXHAUSTED
#   INADEQUATE_SECURITY  connect-node  Internal           grpc-js  PERMISSION_DENIED
#   CANCEL               connect-node  Canceled           grpc-js  CANCELLED
. "$(dirname "$0")/lib.sh"
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > server.mjs <<'EOF'
// Resets each call with the HTTP/2 error code whose number is at the end of the path.
import { createServer } from "node:http2";

const server = createServer().on("stream", (stream, headers) => {
  stream.on("error", () => {});
  stream.close(Number(headers[":path"].split("Reset")[1]));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
EOF
cat > probe.mjs <<'EOF'
import { constants } from "node:http2";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const names = ["REFUSED_STREAM", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "CANCEL"];
const resets = names.map((name) => [name, constants[`NGHTTP2_${name}`]]);
const address = `127.0.0.1:${process.argv[2]}`;
const type = ".google.protobuf.Empty";
const method = resets.map(([, number]) => ({ name: `Reset${number}`, inputType: type, outputType: type }));
const dependency = ["google/protobuf/empty.proto"];
const service = [{ name: "Echo", method }];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");
const byConnect = createClient(Echo, createGrpcTransport({ baseUrl: `http://${address}` }));
const byGrpcJs = new grpc.Client(address, grpc.credentials.createInsecure());
const bytes = (value) => value;

for (const [name, number] of resets) {
  const first = await byConnect[`reset${number}`]({}, { timeoutMs: 20000 }).catch((error) => error);
  const second = await new Promise((resolve) => {
    byGrpcJs.makeUnaryRequest(`/example.Echo/Reset${number}`, bytes, bytes, Buffer.alloc(0), resolve);
  });
  console.log(`${name.padEnd(19)}  connect-node  ${Code[first.code].padEnd(17)}  grpc-js  ${grpc.status[second.code]}`);
}
process.exit(0);
EOF
start node server.mjs
node probe.mjs "$port" | tee seen
grep -q '^REFUSED_STREAM  *connect-node  Internal  *grpc-js  UNAVAILABLE$' seen
grep -q '^ENHANCE_YOUR_CALM  *connect-node  Internal  *grpc-js  RESOURCE_EXHAUSTED$' seen
grep -q '^INADEQUATE_SECURITY  *connect-node  Internal  *grpc-js  PERMISSION_DENIED$' seen
grep -q '^CANCEL  *connect-node  Canceled  *grpc-js  CANCELLED$' seen
