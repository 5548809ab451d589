#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI): a service config with status codes as numbers or in lower case, which @grpc/grpc-js 1.14.7 takes, fails all calls.
#
# gRFC A6 wants `retryableStatusCodes` accepted as numbers, in upper case and in lower case. gRPC's core knows the upper case
# only, and it does not skip what it does not know: the whole service config is refused, and each call on the channel, of any method,
# ends with INVALID_ARGUMENT before it leaves the client. The code names the caller's input, so a service that passes codes on tells
# its own caller that the request was wrong. One config for clients in several languages must spell the codes in upper case.
#
# Output seen, for a port where nothing listens (UNAVAILABLE: the client has tried to connect):
#   ["UNAVAILABLE"]  grpcio   UNAVAILABLE
#   ["unavailable"]  grpcio   INVALID_ARGUMENT: failed to parse status code
#   [14]             grpcio   INVALID_ARGUMENT: is not a string
#   ["UNAVAILABLE"]  grpc-js  UNAVAILABLE
#   ["unavailable"]  grpc-js  UNAVAILABLE
#   [14]             grpc-js  UNAVAILABLE
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3
node_packages @grpc/grpc-js@1.14.7
cat > probe.py <<'EOF'
import json
import re
import socket

import grpc

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = "127.0.0.1:{}".format(free.getsockname()[1])
policy = {"maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1}
cases = []
for codes in ["UNAVAILABLE"], ["unavailable"], [14]:
    method = {"name": [{"service": "example.Echo"}], "retryPolicy": {**policy, "retryableStatusCodes": codes}}
    config = json.dumps({"methodConfig": [method]})
    cases.append({"codes": json.dumps(codes), "address": address, "config": config})
    with grpc.insecure_channel(address, options=[("grpc.service_config", config)]) as channel:
        try:
            # Another service than the one with the policy.
            channel.unary_unary("/example.Other/Call")(b"", timeout=10)
            seen = "answered"
        except grpc.RpcError as error:
            reason = re.search(r"retryableStatusCodes\[0\] error:([^;\]]*)", error.details())
            seen = error.code().name + (f": {reason[1]}" if reason else "")
    print(f"{json.dumps(codes):15}  grpcio   {seen}")
with open("cases.json", "w") as file:
    json.dump(cases, file)
EOF
cat > probe.mjs <<'EOF'
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";

const bytes = (value) => value;
for (const { codes, address, config } of JSON.parse(readFileSync("cases.json"))) {
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), { "grpc.service_config": config });
  const seen = await new Promise((resolve) => {
    const options = { deadline: Date.now() + 10_000 };
    const done = (error) => resolve(error ? grpc.status[error.code] : "answered");
    client.makeUnaryRequest("/example.Other/Call", bytes, bytes, Buffer.alloc(0), options, done);
  });
  client.close();
  console.log(`${codes.padEnd(15)}  grpc-js  ${seen}`);
}
EOF
{ venv/bin/python probe.py 2>/dev/null; node probe.mjs; } | tee seen
grep -q '^\["UNAVAILABLE"\]  *grpcio  *UNAVAILABLE$' seen
grep -q '^\["unavailable"\]  *grpcio  *INVALID_ARGUMENT: failed to parse status code$' seen
grep -q '^\[14\]  *grpcio  *INVALID_ARGUMENT: is not a string$' seen
[ "$(grep -c ' grpc-js  *UNAVAILABLE$' seen)" = 3 ]
