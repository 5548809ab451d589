#!/usr/bin/env bash
# @connectrpc/connect-node 2.1.2 (npm): gRPC clients never repeat a call that its server answers with UNAVAILABLE, whatever their policy.
#
# A gRPC client with a retry policy may repeat a call until it has received response headers (gRFC A6, "When Retries are Valid"), and
# the same text asks servers to send an error that comes before any message in one block, Trailers-Only. A connect-node server sends
# headers first and the status in a second block, also when the handler throws at once. grpcio 1.85.3 and @grpc/grpc-js 1.14.7 then
# count the call as committed: the policy is accepted, and nothing is repeated. Behind a grpc-js server the same clients repeat. Who
# puts a gateway written with connect-node before a service loses the retries that carried the clients over a restart.
#
# Output seen, for a server that answers the first attempt of a call with UNAVAILABLE and the second with OK:
#   connect-node server   status in the trailers   grpc-js client  14 UNAVAILABLE: first attempt
#   grpc-js server        status in the headers    grpc-js client  answered
#   connect-node server   grpcio client   UNAVAILABLE: first attempt
#   grpc-js server        grpcio client   answered
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > servers.mjs <<'EOF'
import http2 from "node:http2";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const type = ".google.protobuf.Empty";
const service = { name: "Echo", method: [{ name: "Call", inputType: type, outputType: type }] };
const dependency = ["google/protobuf/empty.proto"];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service: [service] });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");
/** Clients send this key with each attempt but the first. */
const REPEATED = "grpc-previous-rpc-attempts";

const routes = (router) =>
  router.service(Echo, {
    call(_, context) {
      if (!context.requestHeader.has(REPEATED)) throw new ConnectError("first attempt", Code.Unavailable);
      return {};
    },
  });
const byConnect = http2.createServer(connectNodeAdapter({ routes }));
await new Promise((listening) => byConnect.listen(0, "127.0.0.1", listening));

const bytes = (value) => value;
const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
const byGrpcJs = new grpc.Server();
byGrpcJs.addService({ call: { path: "/example.Echo/Call", ...codec } }, {
  call(call, answer) {
    if (call.metadata.get(REPEATED).length > 0) answer(null, Buffer.alloc(0));
    else answer({ code: grpc.status.UNAVAILABLE, details: "first attempt" });
  },
});
byGrpcJs.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(byConnect.address().port, port);
});
EOF
cat > client.mjs <<'EOF'
import http2 from "node:http2";
import grpc from "@grpc/grpc-js";

const [config, ...ports] = process.argv.slice(2);
const bytes = (value) => value;
/** Where an answer to one plain HTTP/2 request has the status: Trailers-Only is a single block, which Node.js calls headers. */
function statusPlace(port) {
  return new Promise((resolve) => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const headers = { ":method": "POST", ":path": "/example.Echo/Call", "content-type": "application/grpc+proto", te: "trailers" };
    const stream = session.request(headers);
    let place = "nowhere";
    stream.on("response", (block) => "grpc-status" in block && (place = "the headers"));
    stream.on("trailers", (block) => "grpc-status" in block && (place = "the trailers"));
    stream.on("close", () => {
      session.close();
      resolve(place);
    });
    stream.resume();
    stream.end(Buffer.alloc(5));
  });
}
for (const [i, name] of ["connect-node", "grpc-js"].entries()) {
  const place = await statusPlace(ports[i]);
  const client = new grpc.Client(`127.0.0.1:${ports[i]}`, grpc.credentials.createInsecure(), { "grpc.service_config": config });
  const seen = await new Promise((resolve) => {
    const options = { deadline: Date.now() + 10_000 };
    const done = (error) => resolve(error ? error.message : "answered");
    client.makeUnaryRequest("/example.Echo/Call", bytes, bytes, Buffer.alloc(0), options, done);
  });
  client.close();
  console.log(`${`${name} server`.padEnd(20)}  status in ${place.padEnd(13)}  grpc-js client  ${seen}`);
}
EOF
cat > client.py <<'EOF'
import sys

import grpc

config, *ports = sys.argv[1:]
for name, port in zip(("connect-node", "grpc-js"), ports):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.service_config", config)]) as channel:
        try:
            channel.unary_unary("/example.Echo/Call")(b"", timeout=10)
            seen = "answered"
        except grpc.RpcError as error:
            seen = f"{error.code().name}: {error.details()}"
    print(f"{name + ' server':20}  grpcio client   {seen}")
EOF
policy='{"maxAttempts":3,"initialBackoff":"0.05s","maxBackoff":"0.1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}'
config="{\"methodConfig\":[{\"name\":[{\"service\":\"example.Echo\"}],\"retryPolicy\":$policy}]}"
start node servers.mjs
# shellcheck disable=SC2086  # two ports
{ node client.mjs "$config" $port; venv/bin/python client.py "$config" $port; } | tee seen
grep -q '^connect-node server  *status in the trailers  *grpc-js client  *14 UNAVAILABLE: first attempt$' seen
grep -q '^grpc-js server  *status in the headers  *grpc-js client  *answered$' seen
grep -q '^connect-node server  *grpcio client  *UNAVAILABLE: first attempt$' seen
grep -q '^grpc-js server  *grpcio client  *answered$' seen
