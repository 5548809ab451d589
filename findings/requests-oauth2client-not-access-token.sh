#!/usr/bin/env bash
# requests_oauth2client 1.8.0 (PyPI): a token exchange that ends in anything but an access token fails on its `token_type`, "N_A".
#
# RFC 8693 (2.2.1) has the server answer with `token_type` "N_A" when the issued token is not an access token, say an ID token or a
# JWT for another use. `OAuth2Client.token_exchange` sends `requested_token_type`, but takes only token types that have a class, Bearer
# and DPoP. It then reads the answer as an error response, and reports that it failed on that: the exception names the missing
# member `error`, not the token type. openid-client 6.9.0 (npm) takes the same answer. The result holds no token, so the program
# must read it from the HTTP response in the exception.
#
# Output seen:
#   requests_oauth2client  token_type Bearer  issued-token
#   requests_oauth2client  token_type N_A     InvalidTokenResponse: An error happened while processing the error response: 'error'
#   openid-client          token_type Bearer  issued-token
#   openid-client          token_type N_A     issued-token
. "$(dirname "$0")/lib.sh"
python_packages requests_oauth2client==1.8.0
node_packages openid-client@6.9.0
cat > server.py <<'EOF'
import json
from http.server import BaseHTTPRequestHandler, HTTPServer


class Server(BaseHTTPRequestHandler):
    """A token endpoint. The path is the `token_type` of its answer."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = "access_token" if self.path == "/Bearer" else "jwt"
        issued = {"issued_token_type": f"urn:ietf:params:oauth:token-type:{kind}", "token_type": self.path[1:]}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"access_token": "issued-token", "expires_in": 300, **issued}).encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
print(server.server_port, flush=True)
server.serve_forever()
EOF
cat > probe.py <<'EOF'
import sys

from requests_oauth2client import OAuth2Client

for token_type in "Bearer", "N_A":
    # Without `testing` the client wants https.
    endpoint = f"http://127.0.0.1:{sys.argv[1]}/{token_type}"
    client = OAuth2Client(token_endpoint=endpoint, client_id="api", client_secret="secret", testing=True)
    requested = "access_token" if token_type == "Bearer" else "jwt"
    try:
        token = client.token_exchange(subject_token="a", subject_token_type="access_token", requested_token_type=requested)
        seen = token.access_token
    except Exception as error:
        seen = f"{type(error).__name__}: {error.description}"
    print(f"requests_oauth2client  token_type {token_type:6}  {seen}")
EOF
cat > probe.mjs <<'EOF'
import * as client from "openid-client";

const type = (name) => `urn:ietf:params:oauth:token-type:${name}`;
for (const tokenType of ["Bearer", "N_A"]) {
  const issuer = `http://127.0.0.1:${process.argv[2]}`;
  const config = new client.Configuration({ issuer, token_endpoint: `${issuer}/${tokenType}` }, "api", "secret");
  client.allowInsecureRequests(config);
  const requested = type(tokenType === "Bearer" ? "access_token" : "jwt");
  const exchange = { subject_token: "a", subject_token_type: type("access_token"), requested_token_type: requested };
  const grant = "urn:ietf:params:oauth:grant-type:token-exchange";
  const seen = await client.genericGrantRequest(config, grant, exchange).then((token) => token.access_token, String);
  console.log(`openid-client          token_type ${tokenType.padEnd(6)}  ${seen}`);
}
EOF
start python3 server.py
{ venv/bin/python probe.py "$port"; node probe.mjs "$port"; } | tee seen
grep -q "^requests_oauth2client  *token_type Bearer  *issued-token$" seen
grep -q "^requests_oauth2client  *token_type N_A  *InvalidTokenResponse: .*error response: 'error'$" seen
[ "$(grep -c '^openid-client  *token_type [BN][a-zA_]*  *issued-token$' seen)" = 2 ]
