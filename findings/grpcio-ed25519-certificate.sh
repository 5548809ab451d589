#!/usr/bin/env bash
# grpcio 1.85.3 (PyPI): a server starts with an Ed25519 certificate that gRPC's own client cannot use.
#
# RFC 8410 defines Ed25519 certificates, and TLS 1.3 has the algorithm. The gRPC server takes such a pair without a word and serves
# clients on OpenSSL. The gRPC client does not offer the algorithm, so the handshake fails, and neither its message nor its status
# (UNAVAILABLE, as for a server that is down, so callers repeat the call) names the certificate. With ECDSA on P-256 both connect.
#
# Output seen:
#   P-256    OpenSSL client  TLSv1.3
#   P-256    gRPC client     answer of 0 bytes
#   Ed25519  OpenSSL client  TLSv1.3
#   Ed25519  gRPC client     UNAVAILABLE: … Handshake read failed (Socket closed)
. "$(dirname "$0")/lib.sh"
python_packages grpcio==1.85.3 cryptography==50.0.2
cat > probe.py <<'EOF'
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Echo(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


def self_signed(key, digest):
    """Certificate and key for localhost, in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, digest).public_bytes(Encoding.PEM)
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def openssl_client(port, certificate):
    context = ssl.create_default_context(cadata=certificate.decode())
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as tcp:
        with context.wrap_socket(tcp, server_hostname="localhost") as tls:
            return tls.version()


def grpc_client(port, certificate):
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(certificate), options) as channel:
        try:
            return f"answer of {len(channel.unary_unary('/example.Echo/Call')(b'', timeout=20))} bytes"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


for name, key, digest in [
    ("P-256", ec.generate_private_key(ec.SECP256R1()), SHA256()),
    ("Ed25519", ed25519.Ed25519PrivateKey.generate(), None),
]:
    certificate, private = self_signed(key, digest)
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, certificate)]))
    server.start()
    print(f"{name:7}  OpenSSL client  {openssl_client(port, certificate)}", flush=True)
    print(f"{name:7}  gRPC client     {grpc_client(port, certificate)}", flush=True)
    server.stop(None).wait()
EOF
GRPC_VERBOSITY=NONE venv/bin/python probe.py | tee seen
[ "$(grep -c '^\(P-256\|Ed25519\) *OpenSSL client *TLSv1.3$' seen)" = 2 ]
grep -q '^P-256 *gRPC client *answer of 0 bytes$' seen
grep -q '^Ed25519 *gRPC client *UNAVAILABLE: ' seen
