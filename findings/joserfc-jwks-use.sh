#!/usr/bin/env bash
# joserfc 1.8.0 (PyPI): one key with an application's own `use` or `key_ops` value makes the whole JWK set unreadable.
#
# RFC 7517 (4.2 and 4.3) lets a key carry other values than the registered ones, and says (5) that a reader should ignore a key of a
# set that it does not understand. joserfc does so for an unknown key type (`kty`), but raises an error for the whole set when a value of
# `use` or `key_ops` is unknown to it. PyJWT 2.15.1 reads the usable key of all three sets.
#
# Output seen:
#   unknown kty      PyJWT: key found   joserfc: key found
#   own use value    PyJWT: key found   joserfc: key_parameter: 'use' must be one of ['sig', 'enc']
#   own key_ops      PyJWT: key found   joserfc: key_parameter: 'key_ops' must be one of ['sign', 'verify', …]
. "$(dirname "$0")/lib.sh"
python_packages joserfc==1.8.0 PyJWT==2.15.1 cryptography==50.0.2
venv/bin/python - <<'EOF' | tee seen
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import KeySet


def key(kid, **members):
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True) | {"kid": kid} | members


def pyjwt(jwks):
    return jwt.PyJWKSet.from_dict(jwks)["ours"]


def joserfc(jwks):
    return KeySet.import_key_set(jwks).get_by_kid("ours")


def found(read, jwks):
    try:
        read(jwks)
        return "key found"
    except Exception as error:
        return str(error)


for name, other in [
    ("unknown kty", {"kty": "example.org/new", "kid": "other"}),
    ("own use value", key("other", use="example.org/attest")),
    ("own key_ops", key("other", key_ops=["verify", "example.org/attest"])),
]:
    jwks = {"keys": [key("ours", use="sig", alg="ES256"), other]}
    print(f"{name:16} PyJWT: {found(pyjwt, jwks)}   joserfc: {found(joserfc, jwks)}")
EOF
[ "$(grep -c 'PyJWT: key found' seen)" = 3 ]
[ "$(grep -c 'joserfc: key found' seen)" = 1 ]
grep -q "joserfc: .*'use' must be one of" seen
grep -q "joserfc: .*'key_ops' must be one of" seen
