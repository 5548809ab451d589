#!/usr/bin/env bash
# openid-client 6.9.0 (npm): the 401 that RFC 6749 prescribes hides why the token endpoint refused the client.
#
# For a client that used HTTP Basic, RFC 6749 (5.2) wants an `invalid_client` error as 401 with `WWW-Authenticate: Basic`. With that
# header openid-client does not read the body: `error` and `error_description` are missing and the message tells of a challenge. The
# same answer without the header, or as 400, gives the caller all of it. The body can still be read from `error.response`.
#
# Output seen:
#   401 with challenge     WWWAuthenticateChallengeError  error undefined         description undefined
#   401 without            ResponseBodyError              error "invalid_client"  description "the secret has expired"
. "$(dirname "$0")/lib.sh"
node_packages openid-client@6.9.0
cat > probe.mjs <<'EOF'
import { createServer } from "node:http";
import * as client from "openid-client";

const server = createServer((request, response) => {
  response.statusCode = 401;
  response.setHeader("Content-Type", "application/json");
  if (request.url === "/challenge") response.setHeader("WWW-Authenticate", 'Basic realm="tokens"');
  response.end(JSON.stringify({ error: "invalid_client", error_description: "the secret has expired" }));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
for (const [name, path] of [["401 with challenge", "/challenge"], ["401 without", "/plain"]]) {
  const basic = client.ClientSecretBasic("secret");
  const configuration = new client.Configuration({ issuer, token_endpoint: issuer + path }, "api", undefined, basic);
  client.allowInsecureRequests(configuration);
  await client.clientCredentialsGrant(configuration).then(
    () => console.log(name, "no error"),
    (error) => {
      const text = (value) => String(JSON.stringify(value)).padEnd(17);
      const parts = [name.padEnd(22), error.name.padEnd(30), "error", text(error.error), "description"];
      console.log(...parts, text(error.error_description).trim());
    },
  );
}
server.closeAllConnections();
server.close();
EOF
node probe.mjs | tee seen
grep -q '^401 with challenge  *WWWAuthenticateChallengeError  *error undefined  *description undefined$' seen
grep -q '^401 without  *ResponseBodyError  *error "invalid_client"  *description "the secret has expired"$' seen
