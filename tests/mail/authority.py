"""The certificates of the test: an authority, the server's certificate for localhost alone, and an authority that signed nothing."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from certificates import certificate, write_key

AUTHORITY, STRANGER = "authority.crt", "stranger.crt"


def make(folder: Path):
    own, stranger, server = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
    folder.mkdir()
    for file, key in [(AUTHORITY, own), (STRANGER, stranger)]:
        authority = certificate("authority", key, "authority", key, [x509.BasicConstraints(True, None)])
        (folder / file).write_bytes(authority)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    (folder / "tls.crt").write_bytes(certificate("localhost", server, "authority", own, [names]))
    write_key(folder / "tls.key", server, 0o600)
