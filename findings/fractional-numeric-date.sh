#!/usr/bin/env bash
# joserfc 1.8.0 (PyPI) and jose 6.2.18 (npm): a token with a fraction in `nbf` or `iat` is one of the future until the next full second.
#
# RFC 7519 (2) lets a NumericDate have a fraction, so an issuer may write `time.time()` or `Date.now() / 1000`. joserfc and jose compare
# it with the present time cut to full seconds: a token of 12:00:00.3 is refused at 12:00:00.7 and accepted at 12:00:01, on one and the
# same clock. A client that uses its token at once meets this nearly always, a slow one hardly ever. PyJWT 2.15.1 and fast-jwt 6.3.6
# (npm) accept the token; jose checks `iat` only with `maxTokenAge`. A leeway of one second helps in both libraries.
#
# Output seen, for a token of 0.4 seconds ago:
#   nbf ends with .3  joserfc   invalid_claim: The token is not yet valid
#   nbf ends with .3  PyJWT     accepted
#   iat ends with .3  joserfc   invalid_claim: The token was issued in the future
#   iat ends with .3  PyJWT     accepted
#   nbf ends with .3  jose      "nbf" claim timestamp check failed
#   nbf ends with .3  fast-jwt  accepted
#   iat ends with .3  jose      "iat" claim timestamp check failed (it should be in the past)
#   iat ends with .3  fast-jwt  accepted
. "$(dirname "$0")/lib.sh"
python_packages joserfc==1.8.0 PyJWT==2.15.1
node_packages jose@6.2.18 fast-jwt@6.3.6
cat > probe.py <<'EOF'
import time

import jwt as pyjwt
from joserfc import jwt
from joserfc.jwk import OctKey

secret = b"an-example-secret-of-32-bytes-...."
key = OctKey.import_key(secret)


def by_joserfc(token):
    jwt.JWTClaimsRegistry().validate(jwt.decode(token, key).claims)


def by_pyjwt(token):
    pyjwt.decode(token, secret, ["HS256"])


def seen(claim, check):
    """What `check` says at .7 of a second about a token of .3; once more when a busy machine took until the next second."""
    for _ in range(5):
        time.sleep((1.7 - time.time() % 1) % 1)
        second = int(time.time())
        token = jwt.encode({"alg": "HS256"}, {"sub": "alice", claim: second + 0.3}, key)
        try:
            check(token)
            result = "accepted"
        except Exception as error:
            result = str(error)
        if int(time.time()) == second:
            return token, result
    raise TimeoutError


with open("tokens", "w") as file:
    for claim in "nbf", "iat":
        for name, check in ("joserfc", by_joserfc), ("PyJWT", by_pyjwt):
            token, result = seen(claim, check)
            print(f"{claim} ends with .3  {name:8}  {result}")
        print(claim, token, file=file)
EOF
cat > probe.mjs <<'EOF'
import { readFileSync } from "node:fs";
import { createVerifier } from "fast-jwt";
import { decodeJwt, jwtVerify } from "jose";

const secret = Buffer.from("an-example-secret-of-32-bytes-....");
for (const line of readFileSync("tokens", "utf8").trim().split("\n")) {
  const [claim, token] = line.split(" ");
  const now = Math.round((decodeJwt(token)[claim] + 0.4) * 1000);
  const options = { currentDate: new Date(now), maxTokenAge: claim === "iat" ? "1h" : undefined };
  const byJose = () => jwtVerify(token, secret, options);
  const byFastJwt = async () => createVerifier({ key: secret, clockTimestamp: now })(token);
  for (const [name, check] of [["jose", byJose], ["fast-jwt", byFastJwt]]) {
    const result = await check().then(() => "accepted", (error) => error.message);
    console.log(`${claim} ends with .3  ${name.padEnd(8)}  ${result}`);
  }
}
EOF
{ venv/bin/python probe.py; node probe.mjs; } | tee seen
grep -q '^nbf .* joserfc  .*not yet valid$' seen
grep -q '^iat .* joserfc  .*issued in the future$' seen
[ "$(grep -c '^\(nbf\|iat\) .* jose  .*timestamp check failed' seen)" = 2 ]
[ "$(grep -c '^\(nbf\|iat\) .* \(PyJWT\|fast-jwt\)  *accepted$' seen)" = 4 ]
