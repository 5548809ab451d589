#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI): its server answers INTERNAL to a compression it does not know, brotli for one, even for messages sent as they are.
#
# gRPC's rules (doc/compression.md) give a message in an unknown compression the status UNIMPLEMENTED, with the header
# `grpc-accept-encoding` that names what the server takes, so that a client can send it again in another way. gRPC's core finds the
# header `grpc-encoding` itself malformed: INTERNAL, as if the client were broken. Short messages fail with it, though clients leave them
# uncompressed. @connectrpc/connect-node 2.1.2 (npm) has brotli for clients; @grpc/grpc-js 1.14.7 answers as the rules say,
# though without the header.
#
# Output seen:
#   gzip  short message  grpcio server   done
#   gzip  long message   grpcio server   done
#   br    short message  grpcio server   Internal: Error parsing 'grpc-encoding' metadata
#   br    long message   grpcio server   Internal: Error parsing 'grpc-encoding' metadata
#   gzip  short message  grpc-js server  done
#   gzip  long message   grpc-js server  done
#   br    short message  grpc-js server  done
#   br    long message   grpc-js server  Unimplemented: Received message compressed with unsupported encoding "br"
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > server.py <<'EOF'
from concurrent.futures import ThreadPoolExecutor

import grpc


class Echo(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination(60)
EOF
cat > probe.mjs <<'EOF'
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_wrappers } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { compressionBrotli, compressionGzip, createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const type = ".google.protobuf.StringValue";
const service = [{ name: "Echo", method: [{ name: "Call", inputType: type, outputType: type }] }];
const dependency = ["google/protobuf/wrappers.proto"];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service });
const Echo = createFileRegistry(file, () => file_google_protobuf_wrappers.proto).getService("example.Echo");

/** The same server as server.py, by grpc-js. */
async function grpcJsServer() {
  const bytes = (value) => value;
  const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
  const server = new grpc.Server();
  server.addService({ call: { path: "/example.Echo/Call", ...codec } }, { call: (call, answer) => answer(null, call.request) });
  const credentials = grpc.ServerCredentials.createInsecure();
  return new Promise((resolve) => server.bindAsync("127.0.0.1:0", credentials, (_, port) => resolve(port)));
}

for (const [server, port] of [["grpcio server", process.argv[2]], ["grpc-js server", await grpcJsServer()]]) {
  for (const sendCompression of [compressionGzip, compressionBrotli]) {
    const client = createClient(Echo, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}`, sendCompression }));
    // connect-node compresses from 1024 bytes on.
    for (const [length, name] of [[10, "short message"], [10000, "long message"]]) {
      const call = client.call({ value: "a".repeat(length) }, { timeoutMs: 20000 });
      const seen = await call.then(() => "done", (error) => `${Code[error.code]}: ${error.rawMessage}`);
      console.log(`${sendCompression.name.padEnd(4)}  ${name.padEnd(13)}  ${server.padEnd(14)}  ${seen}`);
    }
  }
}
process.exit(0);
EOF
start venv/bin/python server.py
node probe.mjs "$port" | tee seen
[ "$(grep -c '^gzip .* done$' seen)" = 4 ]
[ "$(grep -c "^br .* grpcio server  *Internal: .*'grpc-encoding'" seen)" = 2 ]
grep -q '^br  *short message  *grpc-js server  *done$' seen
grep -q '^br  *long message  *grpc-js server  *Unimplemented: ' seen
