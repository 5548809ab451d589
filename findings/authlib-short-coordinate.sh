#!/usr/bin/env bash
# Authlib 1.9.10 (PyPI): about one P-256 key in 128 is published as a JWK that other libraries refuse.
#
# RFC 7518 (6.2.1.2) wants each coordinate of an EC key at the full length of the curve, 32 bytes for P-256, with leading zero bytes.
# `authlib.jose.ECKey` writes the coordinate as a number and drops them, so a key whose x or y begins with a zero byte comes out one
# byte short. PyJWT 2.15.1 refuses it, and the RFC 7638 thumbprint, used as `kid`, differs from the one that jwcrypto 1.6.1 computes
# for the same key. A service that makes a key pair per rotation meets it after many good rotations.
#
# Output seen, for the key with the private value 379:
#   Authlib   x of 31 bytes   kid cqdWPhcnF9DHfVHOTKaBvs582HJ6LmX0fEgRXTtiGFU
#   jwcrypto  x of 32 bytes   kid 7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E
#   PyJWT reads Authlib's JWK:   Coords should be 32 bytes for curve P-256
#   PyJWT reads jwcrypto's JWK:  accepted
. "$(dirname "$0")/lib.sh"
python_packages Authlib==1.9.10 PyJWT==2.15.1 jwcrypto==1.6.1 cryptography==50.0.2
venv/bin/python - 2>/dev/null <<'EOF' | tee seen
import base64

import jwt
from authlib.jose import ECKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwk import JWK

# The smallest private value whose x coordinate begins with a zero byte: a valid key, and the same in each run.
public = ec.derive_private_key(379, ec.SECP256R1()).public_key()
pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
authlib = dict(ECKey.import_key(pem).as_dict())
other = JWK.from_pem(pem).export_public(as_dict=True)
for name, key in ("Authlib", authlib), ("jwcrypto", other):
    x = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
    print(f"{name:9} x of {len(x)} bytes   kid {key['kid']}")
for name, key in ("Authlib's JWK:  ", authlib), ("jwcrypto's JWK: ", other):
    try:
        jwt.PyJWK(key, algorithm="ES256")
        print(f"PyJWT reads {name} accepted")
    except jwt.InvalidKeyError as error:
        print(f"PyJWT reads {name} {error}")
EOF
grep -q '^Authlib .*31 bytes.*cqdWPhcn' seen
grep -q '^jwcrypto .*32 bytes.*7Yxe6c_3' seen
grep -q "Authlib's JWK: .*should be 32 bytes" seen
grep -q "jwcrypto's JWK: .*accepted" seen
