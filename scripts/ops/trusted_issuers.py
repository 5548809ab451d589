"""A throw-away file of trusted issuers, with the key set that it names."""

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

ISSUERS = """
[[issuer]]
name = "cluster"
issuer = "https://kubernetes.default.svc.cluster.local"
audience = "countersign"
jwks_file = "{folder}/cluster.jwks"
algorithms = ["ES256"]

[[binding]]
issuer = "cluster"
subject = "system:serviceaccount:shop:orders"
service_account = "orders"
"""


def make_jwks() -> str:
    """A JWKS (RFC 7517) with one P-256 key."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (
        base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=") for number in (numbers.x, numbers.y)
    )
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": x, "y": y}]})


def make_trusted_issuers(folder: Path) -> Path:
    """Writes trusted-issuers.toml and cluster.jwks; returns the path of the first."""
    folder.mkdir()
    (folder / "cluster.jwks").write_text(make_jwks())
    file = folder / "trusted-issuers.toml"
    file.write_text(ISSUERS.format(folder=folder))
    return file
