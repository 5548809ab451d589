#!/usr/bin/env bash
# grpc-web 2.1.1, nice-grpc-web 3.3.11 and @protobuf-ts/grpcweb-transport 2.11.1 (npm): an error of a proxy has another code than in gRPC.
#
# gRPC has a table for answers of proxies, which carry no `grpc-status` (doc/http-grpc-status-mapping.md): a 404 is UNIMPLEMENTED, and 429,
# 502, 503 and 504 are UNAVAILABLE, which tells a client to try again. gRPC-Web changes nothing in that (PROTOCOL-WEB.md). grpc-web, the
# client of the gRPC project, refuses the content type of such a page before it looks at the status, so all become UNKNOWN. nice-grpc-web
# has the table, but wraps its result in an error of its own with UNKNOWN; the right code is in the message alone. protobuf-ts has another
# table, in which a 404 of a proxy is NOT_FOUND, as if the service said that an object does not exist. @connectrpc/connect-node 2.1.2
# follows gRPC.
#
# Output seen, for a page with this HTTP status:
#         connect-node       grpc-web           nice-grpc-web      protobuf-ts
#   404   UNIMPLEMENTED      UNKNOWN            UNKNOWN            NOT_FOUND
#   429   UNAVAILABLE        UNKNOWN            UNKNOWN            RESOURCE_EXHAUSTED
#   502   UNAVAILABLE        UNKNOWN            UNKNOWN            UNKNOWN
#   503   UNAVAILABLE        UNKNOWN            UNKNOWN            UNAVAILABLE
#   504   UNAVAILABLE        UNKNOWN            UNKNOWN            DEADLINE_EXCEEDED
. "$(dirname "$0")/lib.sh"
node_packages grpc-web@2.1.1 xhr2@0.2.1 nice-grpc-web@3.3.11 nice-grpc-common@2.0.4 ws@8.23.0 \
  @protobuf-ts/grpcweb-transport@2.11.1 @protobuf-ts/runtime@2.11.1 @protobuf-ts/runtime-rpc@2.11.1 \
  @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0
cat > probe.mjs <<'EOF'
import { createServer } from "node:http";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";
import { GrpcWebFetchTransport } from "@protobuf-ts/grpcweb-transport";
import { MessageType } from "@protobuf-ts/runtime";
import { ServiceType } from "@protobuf-ts/runtime-rpc";
import grpcWeb from "grpc-web";
import { Status } from "nice-grpc-common";
import { FetchTransport, createChannel, createClientFactory } from "nice-grpc-web";
import xhr2 from "xhr2";

// A proxy without its service: every call gets this status and a page.
let status;
const proxy = createServer((request, response) => {
  request.resume().on("end", () => response.writeHead(status, { "content-type": "text/html" }).end("<h1>Sorry</h1>"));
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const baseUrl = `http://127.0.0.1:${proxy.address().port}`;
const path = "/example.Echo/Say";

// grpc-web calls by the XMLHttpRequest of a browser.
globalThis.XMLHttpRequest = xhr2;
const nothing = () => new Uint8Array(0);
const web = new grpcWeb.GrpcWebClientBase({ format: "binary" });
const webMethod = new grpcWeb.MethodDescriptor(path, grpcWeb.MethodType.UNARY, Object, Object, nothing, Object);
const webNames = Object.fromEntries(Object.entries(grpcWeb.StatusCode).map(([name, code]) => [code, name]));

const stream = { requestStream: false, responseStream: false };
const niceMethod = { path, ...stream, requestSerialize: nothing, responseDeserialize: Object, options: {} };
const nice = createClientFactory().create({ say: niceMethod }, createChannel(baseUrl, FetchTransport()));

const empty = new MessageType("example.Empty", []);
const [method] = new ServiceType("example.Echo", [{ name: "Say", options: {}, I: empty, O: empty }]).methods;
const protobufTs = new GrpcWebFetchTransport({ baseUrl, format: "binary" });

const type = ".google.protobuf.Empty";
const service = [{ name: "Echo", method: [{ name: "Say", inputType: type, outputType: type }] }];
const dependency = ["google/protobuf/empty.proto"];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");
const connect = createClient(Echo, createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }));

const fails = (call, code) => call.then(() => "OK", code);
const upper = (name) => name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
const clients = {
  "connect-node": () => fails(connect.say({}), ({ code }) => upper(Code[code])),
  "grpc-web": () => fails(web.unaryCall(baseUrl + path, {}, {}, webMethod), ({ code }) => webNames[code]),
  "nice-grpc-web": () => fails(nice.say({}), ({ code }) => Status[code]),
  "protobuf-ts": () => fails(protobufTs.unary(method, {}, protobufTs.mergeOptions({})).response, ({ code }) => code),
};
const row = (first, others) => console.log(first.padEnd(6) + others.map((name) => name.padEnd(19)).join("").trimEnd());
row("", Object.keys(clients));
for (status of [404, 429, 502, 503, 504]) {
  const seen = [];
  for (const call of Object.values(clients)) seen.push(await call());
  row(String(status), seen);
}
process.exit(0);
EOF
node probe.mjs | tee seen
grep -q '^404  *UNIMPLEMENTED  *UNKNOWN  *UNKNOWN  *NOT_FOUND$' seen
grep -q '^429  *UNAVAILABLE  *UNKNOWN  *UNKNOWN  *RESOURCE_EXHAUSTED$' seen
grep -q '^502  *UNAVAILABLE  *UNKNOWN  *UNKNOWN  *UNKNOWN$' seen
grep -q '^503  *UNAVAILABLE  *UNKNOWN  *UNKNOWN  *UNAVAILABLE$' seen
grep -q '^504  *UNAVAILABLE  *UNKNOWN  *UNKNOWN  *DEADLINE_EXCEEDED$' seen
