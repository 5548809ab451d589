#!/usr/bin/env bash
# @connectrpc/connect-node 2.1.2 (npm): a call with a time-out of 30 days fails at once with "the operation timed out".
#
# The gRPC protocol gives `grpc-timeout` at most eight digits and units up to hours. connect-node always writes milliseconds, so from
# 100,000,000 (28 hours) on the header has nine digits or more, which a server may refuse. From 2^31 milliseconds (25 days) on its own
# timer runs over: Node.js takes such a delay as 1 millisecond, and the call ends at once. A stream that is meant to stay open for
# weeks, with a generous deadline as a last resort, never opens. @grpc/grpc-js 1.14.7 changes the unit and waits.
#
# Output seen, with a server that answers after 0.5 seconds (the digits of grpc-js differ by what has passed of the deadline):
#   1 day    connect-node  grpc-timeout 86400000m     answered
#   2 days   connect-node  grpc-timeout 172800000m    answered
#   30 days  connect-node  grpc-timeout 2592000000m   [deadline_exceeded] the operation timed out
#   30 days  grpc-js       grpc-timeout 2592000S      answered
. "$(dirname "$0")/lib.sh"
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > probe.mjs <<'EOF'
import http2 from "node:http2";
import { setTimeout } from "node:timers/promises";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const DAY = 24 * 3600 * 1000;
const type = ".google.protobuf.Empty";
const service = { name: "Echo", method: [{ name: "Call", inputType: type, outputType: type }] };
const dependency = ["google/protobuf/empty.proto"];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service: [service] });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");

let header;
let headerRead;
const server = http2.createServer();
server.on("stream", (stream, headers) => {
  header = headers["grpc-timeout"];
  headerRead();
  stream.on("error", () => {});
  setTimeout(500).then(() => {
    if (stream.destroyed) return;
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.alloc(5));
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const address = `127.0.0.1:${server.address().port}`;

const connect = createClient(Echo, createGrpcTransport({ baseUrl: `http://${address}` }));
const grpcJs = new grpc.Client(address, grpc.credentials.createInsecure());
const callByConnect = (timeoutMs) => connect.call({}, { timeoutMs });
const callByGrpcJs = (timeoutMs) =>
  new Promise((resolve, reject) => {
    const bytes = (value) => value;
    const options = { deadline: Date.now() + timeoutMs };
    const done = (error, answer) => (error ? reject(error) : resolve(answer));
    grpcJs.makeUnaryRequest("/example.Echo/Call", bytes, bytes, Buffer.alloc(0), options, done);
  });
for (const [days, name, call] of [
  ["1 day", "connect-node", callByConnect],
  ["2 days", "connect-node", callByConnect],
  ["30 days", "connect-node", callByConnect],
  ["30 days", "grpc-js", callByGrpcJs],
]) {
  header = "not seen";
  const read = new Promise((resolve) => (headerRead = resolve));
  const seen = await call(parseInt(days) * DAY).then(() => "answered", (error) => error.message);
  await Promise.race([read, setTimeout(2000)]);
  console.log(`${days.padEnd(7)}  ${name.padEnd(12)}  grpc-timeout ${header.padEnd(12)}  ${seen}`);
}
process.exit(0);
EOF
node --disable-warning=TimeoutOverflowWarning probe.mjs | tee seen
grep -q '^1 day  *connect-node  *grpc-timeout 86400000m  *answered$' seen
grep -q '^2 days  *connect-node  *grpc-timeout 172800000m  *answered$' seen
grep -q '^30 days  *connect-node  *grpc-timeout \(2592000000m\|not seen\)  *.deadline_exceeded. the operation timed out$' seen
grep -q '^30 days  *grpc-js  *grpc-timeout [0-9]\{1,8\}[SMH]  *answered$' seen
