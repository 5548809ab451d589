#!/usr/bin/env bash
# A SPIFFE trust bundle is a JWK set in which ordinary JWKS readers find no key: jose 6.2.18, jwks-rsa 4.1.0 (npm), PyJWT 2.15.1.
#
# The SPIFFE Trust Domain and Bundle specification publishes the keys of JWT-SVIDs as a JWK set (RFC 7517) and wants `use: "jwt-svid"`
# in each of them. RFC 7517 (4.2) allows such values. The usual readers take a key for a signing key only with `use: "sig"` or without
# `use`, so the key that spiffe 0.3.2 (PyPI) finds for a token is invisible to them, and no message mentions `use`. A service that
# trusts the tokens of a SPIFFE issuer cannot be given the address of its bundle: it needs a second set of the same keys.
#
# Output seen:
#   use=jwt-svid  spiffe    spiffe://example.org/api
#   use=jwt-svid  PyJWT     The JWKS endpoint did not contain any signing keys
#   use=jwt-svid  jose      no applicable key found in the JSON Web Key Set
#   use=jwt-svid  jwks-rsa  The JWKS endpoint did not contain any signing keys
#   use=sig       spiffe    spiffe://example.org/api
#   use=sig       PyJWT     spiffe://example.org/api
#   use=sig       jose      spiffe://example.org/api
#   use=sig       jwks-rsa  key found
. "$(dirname "$0")/lib.sh"
python_packages spiffe==0.3.2 PyJWT==2.15.1 cryptography==50.0.2
node_packages jose@6.2.18 jwks-rsa@4.1.0
cat > readers.mjs <<'EOF'
import { createRemoteJWKSet, jwtVerify } from "jose";
import jwksRsa from "jwks-rsa";

const [use, address, token] = process.argv.slice(2);
const print = (name, read) =>
  read().then((value) => value, (error) => error.message).then((seen) => console.log(`${use}  ${name}  ${seen}`));

await print("jose    ", async () => (await jwtVerify(token, createRemoteJWKSet(new URL(address)))).payload.sub);
await print("jwks-rsa", async () => (await jwksRsa({ jwksUri: address }).getSigningKey("a")) && "key found");
EOF
cat > bundle.py <<'EOF'
import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe import JwtBundle, JwtSvid, TrustDomain


class Bundle(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def spiffe():
    bundle = JwtBundle.parse(TrustDomain("example.org"), body)
    return JwtSvid.parse_and_validate(token, bundle, {"countersign"}).spiffe_id


def pyjwt():
    signing_key = jwt.PyJWKClient(address).get_signing_key_from_jwt(token)
    return jwt.decode(token, signing_key, ["ES256"], audience="countersign")["sub"]


server = HTTPServer(("127.0.0.1", 0), Bundle)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/"
key = ec.generate_private_key(ec.SECP256R1())
claims = {"sub": "spiffe://example.org/api", "aud": ["countersign"], "exp": int(time.time()) + 300}
token = jwt.encode(claims, key, "ES256", {"kid": "a"})
public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
for use in "jwt-svid", "sig":
    body = json.dumps({"keys": [public | {"kid": "a", "use": use}]}).encode()
    for name, read in ("spiffe  ", spiffe), ("PyJWT   ", pyjwt):
        try:
            seen = read()
        except Exception as error:
            seen = error
        print(f"use={use:8}  {name}  {seen}", flush=True)
    subprocess.run(["node", "readers.mjs", f"use={use:8}", address, token], check=True)
EOF
venv/bin/python bundle.py | tee seen
[ "$(grep -c '^use=jwt-svid .*\(signing keys\|applicable key .*\)$' seen)" = 3 ]
[ "$(grep -c '^use=sig .*\(spiffe://example.org/api\|key found\)$' seen)" = 4 ]
grep -q '^use=jwt-svid  spiffe  *spiffe://example.org/api$' seen
