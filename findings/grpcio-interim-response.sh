#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI): an interim response, such as 103 Early Hints or 100 Continue, fails the call; the real answer behind it is lost.
#
# A client "MUST be able to parse one or more 1xx responses" before the final one, even when it expects none (RFC 9110, 15.2; for HTTP/2
# RFC 9113, 8.1), and gRPC's own mapping of HTTP statuses says that the whole 1xx header should be skipped and the next one be read.
# gRPC's core takes the first header for the answer: UNKNOWN, though the service has done its work and says so. A gateway that
# hands on or adds interim responses is enough. @grpc/grpc-js 1.14.7 (npm) skips it.
#
# Output seen:
#   answer 200       grpcio   done
#   answer 103, 200  grpcio   UNKNOWN: Received http2 header with status: 103
#   answer 100, 200  grpcio   UNKNOWN: Received http2 header with status: 100
#   answer 200       grpc-js  done
#   answer 103, 200  grpc-js  done
#   answer 100, 200  grpc-js  done
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3
node_packages @grpc/grpc-js@1.14.7
cat > server.mjs <<'EOF'
// Answers each gRPC call with "done", after an interim response with the status that the path names, if any.
import { createServer } from "node:http2";

const server = createServer().on("stream", (stream, headers) => {
  stream.on("error", () => {});
  const interim = Number(headers[":path"].split("/").pop());
  if (interim) stream.additionalHeaders({ ":status": interim });
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end("\0\0\0\0\x04done");
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
EOF
cat > probe.py <<'EOF'
import sys

import grpc

with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    for path, answer in ("0", "200"), ("103", "103, 200"), ("100", "100, 200"):
        try:
            seen = channel.unary_unary(f"/example.Echo/{path}")(b"", timeout=20).decode()
        except grpc.RpcError as error:
            seen = f"{error.code().name}: {error.details()}"
        print(f"answer {answer:8}  grpcio   {seen}")
EOF
cat > probe.mjs <<'EOF'
import grpc from "@grpc/grpc-js";

const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure());
const bytes = (value) => value;
for (const [path, answer] of [["0", "200"], ["103", "103, 200"], ["100", "100, 200"]]) {
  const seen = await new Promise((resolve) => {
    const done = (error, answer) => resolve(error?.message ?? answer.toString());
    client.makeUnaryRequest(`/example.Echo/${path}`, bytes, bytes, Buffer.alloc(0), done);
  });
  console.log(`answer ${answer.padEnd(8)}  grpc-js  ${seen}`);
}
process.exit(0);
EOF
start node server.mjs
{ venv/bin/python probe.py "$port"; node probe.mjs "$port"; } | tee seen
[ "$(grep -c '^answer .*  grpc-js  done$' seen)" = 3 ]
grep -q '^answer 200  *grpcio  *done$' seen
[ "$(grep -c '^answer 10[03], 200  grpcio  *UNKNOWN: Received http2 header with status: 10[03]$' seen)" = 2 ]
