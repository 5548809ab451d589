#!/usr/bin/env bash
# jwks-rsa 4.1.0 (npm): a JWK set with six keys in use is fetched for every token.
#
# The cache holds five keys by default, one entry for each `kid`, although each fetch brings the whole set. When tokens of six keys
# come in turn, the key that is wanted next is always the one that was dropped last, so the cache never helps: one request to the
# JWKS address for each token. With five keys it is one request for each key, and never again. Six keys are soon reached where
# several issuers or tenants share one set. `cacheMaxEntries` is the cure.
#
# Output seen, for ten rounds:
#   5 keys:  50 tokens,  5 requests
#   6 keys:  60 tokens, 60 requests
. "$(dirname "$0")/lib.sh"
node_packages jwks-rsa@4.1.0
cat > probe.mjs <<'EOF'
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import jwksRsa from "jwks-rsa";

for (const count of [5, 6]) {
  const keys = Array.from({ length: count }, (_, kid) => {
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    return { ...publicKey.export({ format: "jwk" }), kid: `key-${kid}`, use: "sig", alg: "ES256" };
  });
  let requests = 0;
  const server = createServer((_, response) => {
    requests += 1;
    response.setHeader("Content-Type", "application/json").end(JSON.stringify({ keys }));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const client = jwksRsa({ jwksUri: `http://127.0.0.1:${server.address().port}/` });
  for (let round = 0; round < 10; round += 1) for (const { kid } of keys) await client.getSigningKey(kid);
  console.log(`${count} keys:  ${10 * count} tokens, ${String(requests).padStart(2)} requests`);
  server.closeAllConnections();
  server.close();
}
EOF
node probe.mjs | tee seen
grep -q '^5 keys: *50 tokens, *5 requests$' seen
grep -q '^6 keys: *60 tokens, *60 requests$' seen
