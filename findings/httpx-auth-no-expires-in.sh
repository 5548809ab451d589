#!/usr/bin/env bash
# httpx_auth 0.23.1 and requests_auth 8.0.0 (PyPI): an opaque token without `expires_in` ends in "not enough values to unpack".
#
# RFC 6749 (5.1) only recommends `expires_in`, and an access token is usually opaque to the client (1.4). When the field is missing, both
# libraries split the token at its dots to read `exp` from it, as if every token were a JWT. The answer of the token endpoint is
# valid, the request never goes out, and the error names neither the token nor the field. With `expires_in` the same token is sent.
#
# Output seen:
#   with expires_in     httpx_auth     the API received: Bearer opaque-token
#   with expires_in     requests_auth  the API received: Bearer opaque-token
#   without expires_in  httpx_auth     ValueError: not enough values to unpack (expected 3, got 1)
#   without expires_in  requests_auth  ValueError: not enough values to unpack (expected 3, got 1)
. "$(dirname "$0")/lib.sh"
python_packages httpx_auth==0.23.1 httpx==0.28.1 requests_auth==8.0.0 requests==2.34.2
cat > probe.py <<'EOF'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import httpx_auth
import requests
import requests_auth


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        lifetime = {"expires_in": 300} if self.path == "/with" else {}
        self.answer(json.dumps({"access_token": "opaque-token", "token_type": "Bearer", **lifetime}))

    def do_GET(self):
        self.answer(self.headers["Authorization"])

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
for path in "with", "without":
    for http, library in (httpx, httpx_auth), (requests, requests_auth):
        try:
            auth = library.OAuth2ClientCredentials(f"{address}/{path}", "api", "secret")
            seen = "the API received: " + http.get(f"{address}/api", auth=auth).text
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
        print(f"{path + ' expires_in':18}  {library.__name__:13}  {seen}")
EOF
venv/bin/python probe.py | tee seen
[ "$(grep -c '^with expires_in .* Bearer opaque-token$' seen)" = 2 ]
[ "$(grep -c '^without expires_in .* ValueError: not enough values to unpack' seen)" = 2 ]
