#!/usr/bin/env bash
# Authlib 1.9.10 (PyPI): the session's second token is asked for without the parameters of the first.
#
# A session with `grant_type="client_credentials"` renews its token by itself. Extra parameters such as `audience` or `resource`
# (RFC 8707) are arguments of `fetch_token`, and the renewal does not repeat them: the first token is for the named audience, each later
# one for whatever the server takes as the default. The service works after the start and is refused when the first token ends.
# A subclass that overrides `fetch_token` can add them again. Tokens of less than 60 seconds, as here, are renewed at every call.
#
# Output seen:
#   token request   audience=billing client_id=api grant_type=client_credentials scope=read
#   token request   client_id=api grant_type=client_credentials scope=read
#   API request
. "$(dirname "$0")/lib.sh"
python_packages Authlib==1.9.10 requests==2.34.2
cat > probe.py <<'EOF'
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
from authlib.integrations.requests_client import OAuth2Session


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        form.pop("client_secret")
        print("token request  ", *(f"{name}={value}" for name, value in sorted(form.items())))
        self.answer({"access_token": "token", "token_type": "Bearer", "expires_in": 30})

    def do_GET(self):
        print("API request")
        self.answer({})

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
session = OAuth2Session(
    "api", "secret", token_endpoint=f"{address}/token", grant_type="client_credentials",
    scope="read", token_endpoint_auth_method="client_secret_post",
)
session.fetch_token(audience="billing")
session.get(f"{address}/invoices")
EOF
venv/bin/python -W ignore probe.py | tee seen
[ "$(wc -l < seen)" = 3 ]
sed -n 1p seen | grep -q '^token request .*audience=billing .*grant_type=client_credentials scope=read$'
sed -n 2p seen | grep -q '^token request .*grant_type=client_credentials scope=read$'
[ "$(grep -c audience seen)" = 1 ]
sed -n 3p seen | grep -q '^API request$'
