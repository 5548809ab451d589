#!/usr/bin/env bash
# grpcio 1.85.3 and grpclib 0.4.9 (PyPI): a status message that ends with a space arrives empty at clients on Node.js.
#
# The gRPC protocol lets spaces of a status message go out as they are. HTTP/2 (RFC 9113, 8.2.1) forbids spaces at the ends of a field
# value, and the HTTP/2 library of Node.js 20 drops such a header without an error. The servers in Python send the space, so a
# message like "locked: " with an empty detail behind it is lost as a whole in @grpc/grpc-js 1.14.7 and @connectrpc/connect-node
# 2.1.2; the code arrives. A grpc-js server writes the space as %20 and nothing is lost. Trim messages before they are sent.
#
# Output seen:
#   grpcio server   message 'locked:'   grpc-js "locked:"   connect-node "locked:"
#   grpcio server   message 'locked: '  grpc-js ""          connect-node ""
#   grpclib server  message 'locked:'   grpc-js "locked:"   connect-node "locked:"
#   grpclib server  message 'locked: '  grpc-js ""          connect-node ""
#   grpc-js server  message 'locked: '  grpc-js "locked: "  connect-node "locked: "
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 grpclib==0.4.9
node_packages @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @bufbuild/protobuf@2.17.0 @grpc/grpc-js@1.14.7
cat > servers.py <<'EOF'
import asyncio
import socket

import grpc
import grpc.aio
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

MESSAGES = {"/example.Echo/Plain": "locked:", "/example.Echo/Space": "locked: "}


class Empty:
    def SerializeToString(self):
        return b""

    @staticmethod
    def FromString(_):
        return Empty()


class ByGrpcio(grpc.GenericRpcHandler):
    def service(self, details):
        async def call(_, context):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, MESSAGES[details.method])

        return grpc.unary_unary_rpc_method_handler(call)


class ByGrpclib:
    def __mapping__(self):
        return {path: self.handler(message) for path, message in MESSAGES.items()}

    def handler(self, message):
        async def call(stream):
            await stream.recv_message()
            raise GRPCError(Status.FAILED_PRECONDITION, message)

        return Handler(call, Cardinality.UNARY_UNARY, Empty, Empty)


async def main():
    grpcio = grpc.aio.server(handlers=[ByGrpcio()])
    port = grpcio.add_insecure_port("127.0.0.1:0")
    await grpcio.start()
    grpclib = Server([ByGrpclib()])
    listening = socket.create_server(("127.0.0.1", 0))
    await grpclib.start(sock=listening)
    print(port, listening.getsockname()[1], flush=True)
    await asyncio.sleep(60)


asyncio.run(main())
EOF
cat > clients.mjs <<'EOF'
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_empty } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";

const type = ".google.protobuf.Empty";
const method = ["Plain", "Space"].map((name) => ({ name, inputType: type, outputType: type }));
const dependency = ["google/protobuf/empty.proto"];
const service = [{ name: "Echo", method }];
const file = create(FileDescriptorProtoSchema, { name: "echo.proto", package: "example", dependency, service });
const Echo = createFileRegistry(file, () => file_google_protobuf_empty.proto).getService("example.Echo");
const bytes = (value) => value;

async function print(name, port, path, message) {
  const byGrpcJs = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const first = await new Promise((resolve) => {
    const done = (error) => resolve(error.details);
    byGrpcJs.makeUnaryRequest(`/example.Echo/${path}`, bytes, bytes, Buffer.alloc(0), done);
  });
  const byConnect = createClient(Echo, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
  const second = await byConnect[path.toLowerCase()]({}).catch((error) => error.rawMessage);
  const quoted = [`'${message}'`.padEnd(10), JSON.stringify(first).padEnd(10), JSON.stringify(second)];
  console.log(`${`${name} server`.padEnd(14)}  message ${quoted[0]}  grpc-js ${quoted[1]}  connect-node ${quoted[2]}`);
}

for (const [i, name] of ["grpcio", "grpclib"].entries()) {
  await print(name, process.argv[2 + i], "Plain", "locked:");
  await print(name, process.argv[2 + i], "Space", "locked: ");
}
const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
const server = new grpc.Server();
server.addService({ space: { path: "/example.Echo/Space", ...codec } }, {
  space: (_, answer) => answer({ code: grpc.status.FAILED_PRECONDITION, details: "locked: " }),
});
const credentials = grpc.ServerCredentials.createInsecure();
const port = await new Promise((resolve) => server.bindAsync("127.0.0.1:0", credentials, (_, port) => resolve(port)));
await print("grpc-js", port, "Space", "locked: ");
process.exit(0);
EOF
start venv/bin/python servers.py
# shellcheck disable=SC2086  # two ports
node clients.mjs $port | tee seen
[ "$(grep -c "^grpc[a-z]* server  *message 'locked:'   grpc-js \"locked:\"  *connect-node \"locked:\"$" seen)" = 2 ]
[ "$(grep -c "^grpc[a-z]* server  *message 'locked: '  grpc-js \"\"  *connect-node \"\"$" seen)" = 2 ]
grep -q "^grpc-js server  *message 'locked: '  grpc-js \"locked: \"  connect-node \"locked: \"$" seen
