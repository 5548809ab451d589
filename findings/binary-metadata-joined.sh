#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI): a call with two values of one binary metadata key, sent by @connectrpc/connect-node 2.1.2 (npm), is INTERNAL.
#
# The gRPC protocol allows values of one key to be joined with a comma, and wants each implementation to split binary values
# (`-bin`) at the comma before it decodes the base64. connect-node keeps metadata in `Headers`, which joins, so two values that were
# appended go out as one header line. gRPC's own core does not split: it refuses the call before the handler sees it. @grpc/grpc-js
# 1.14.7 splits. With one value both agree.
#
# Output seen:
#   one value   grpcio server   000102
#   one value   grpc-js server  000102
#   two values  grpcio server   [internal] Error parsing 'trace-bin' metadata: illegal base64 encoding
#   two values  grpc-js server  000102 030405
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > server.py <<'EOF'
from concurrent.futures import ThreadPoolExecutor

import grpc


class Echo(grpc.GenericRpcHandler):
    """Answers with the values of `trace-bin` in the metadata key `seen`."""

    def service(self, details):
        values = [value.hex() for key, value in details.invocation_metadata if key == "trace-bin"]

        def call(_, context):
            context.send_initial_metadata([("seen", " ".join(values))])
            return b""

        return grpc.unary_unary_rpc_method_handler(call)


server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination(60)
EOF
cat > client.mjs <<'EOF'
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { createClient, encodeBinaryHeader } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const type = ".google.protobuf.Empty";
const service = { name: "Echo", method: [{ name: "Call", inputType: type, outputType: type }] };
const dependency = ["google/protobuf/empty.proto"];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service: [service] });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");

/** The same server as server.py, by grpc-js. */
async function grpcJsServer() {
  const bytes = (value) => value;
  const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
  const server = new grpc.Server();
  server.addService({ call: { path: "/example.Echo/Call", ...codec } }, {
    call(call, answer) {
      const metadata = new grpc.Metadata();
      metadata.set("seen", call.metadata.get("trace-bin").map((value) => value.toString("hex")).join(" "));
      call.sendMetadata(metadata);
      answer(null, Buffer.alloc(0));
    },
  });
  const credentials = grpc.ServerCredentials.createInsecure();
  return new Promise((resolve) => server.bindAsync("127.0.0.1:0", credentials, (_, port) => resolve(port)));
}

const servers = [["grpcio server", process.argv[2]], ["grpc-js server", await grpcJsServer()]];
const [first, second] = [[0, 1, 2], [3, 4, 5]].map((value) => encodeBinaryHeader(Uint8Array.from(value)));
for (const [name, values] of [["one value", [first]], ["two values", [first, second]]]) {
  for (const [server, port] of servers) {
    const client = createClient(Echo, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
    const headers = new Headers(values.map((value) => ["trace-bin", value]));
    let seen;
    const onHeader = (answer) => (seen = answer.get("seen"));
    await client.call({}, { headers, onHeader, timeoutMs: 20000 }).catch((error) => (seen = error.message));
    console.log(`${name.padEnd(10)}  ${server.padEnd(14)}  ${seen}`);
  }
}
process.exit(0);
EOF
start venv/bin/python server.py
node client.mjs "$port" | tee seen
[ "$(grep -c '^one value  *\(grpcio\|grpc-js\) server  *000102$' seen)" = 2 ]
grep -q '^two values  *grpcio server  *.internal. .*illegal base64' seen
grep -q '^two values  *grpc-js server  *000102 030405$' seen
