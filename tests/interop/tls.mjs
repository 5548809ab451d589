// Makes one call with grpc-js, over TLS if an authority is given, and prints its status as JSON; tls.py says what for.
//
//     node tls.mjs '{"address": "HOST:PORT", "authority": FILE, "key": FILE, "certificate": FILE, "name": HOST}'

import { readFileSync } from "node:fs";

import grpc from "@grpc/grpc-js";

const { address, authority, key, certificate, name } = JSON.parse(process.argv[2]);
const read = (file) => (file ? readFileSync(file) : null);
const credentials = authority
  ? grpc.credentials.createSsl(read(authority), read(key), read(certificate))
  : grpc.credentials.createInsecure();
const client = new grpc.Client(address, credentials, name ? { "grpc.ssl_target_name_override": name } : {});
const asIs = (bytes) => bytes;
const request = Buffer.from([0x0a, 1, 0x78]); // an access token of one letter
const options = { deadline: Date.now() + 20_000 };
client.makeUnaryRequest("/countersign.auth.v1.AuthService/ValidateToken", asIs, asIs, request, options, (error) => {
  console.log(JSON.stringify({ code: grpc.status[error?.code ?? 0], details: error?.details ?? "" }));
  client.close();
});
