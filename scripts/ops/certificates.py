"""Throw-away certificates, in the files that the TLS variables name."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def write_key(path: Path, key, mode: int):
    path.touch(mode=mode)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def certificate(name: str, key, issuer: str, issuer_key, extensions: list) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_certificates(folder: Path, key_mode: int = 0o600, issuer: str = "authority"):
    """Writes tls.crt, tls.key, bundle.crt, client.crt and client.key; the names are localhost and 127.0.0.1."""
    folder.mkdir()
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "tls", "client")}
    authority = certificate(
        issuer, keys["authority"], issuer, keys["authority"], [x509.BasicConstraints(True, None)]
    )
    (folder / "bundle.crt").write_bytes(authority)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    purposes = {
        "tls": [x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])],
        "client": [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])],
    }
    for name, extensions in purposes.items():
        signed = certificate(name, keys[name], issuer, keys["authority"], extensions)
        (folder / f"{name}.crt").write_bytes(signed)
        write_key(folder / f"{name}.key", keys[name], key_mode)
