"""Shows what a real Envoy makes of our answers, with the configuration of deploy/proxies/envoy/application.yaml.

    python gateway.py BINARY FOLDER ENVOY

A real Countersign decides, and an application behind Envoy tells which headers reached it. Everything is tried twice:
with the file as it is, and with an Envoy that lets underscores pass and hands headers over as raw bytes, so that
nothing depends on what is not ours.
"""

import json
import os
import signal
import sys
import time
import uuid
from http.client import HTTPConnection
from pathlib import Path

import grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2

from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc
from programs import PASSWORD, PATIENCE_SECONDS, Application, Countersign, Envoy, GrpcApplication

CONFIG = Path("deploy/proxies/envoy/application.yaml")
IDENTITY = ["x-countersign-user-id", "x-countersign-session-id", "x-countersign-roles"]
# What a client may send in the hope of being taken for another.
FORGED = [
    *((name, "forged") for name in IDENTITY),
    *((name.title(), "forged-again") for name in IDENTITY),
    *((name.replace("-", "_"), "forged-underscores") for name in IDENTITY),
    ("x-countersign_user-id", "forged-mixed"),
    ("X_Countersign-Session_Id", "forged-mixed"),
    ("x_countersign-roles", "forged-mixed"),
]


class Answer:
    def __init__(self, status: int, headers: dict, body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def detail(self, name: str) -> dict:
        return next(d for d in self.json()["details"] if d["@type"].endswith(f".{name}"))

    def reason(self) -> str:
        return self.detail("ErrorInfo")["reason"]


class Gateway:
    """One Envoy before one application, and short words for asking it."""

    def __init__(self, envoy: Envoy, countersign: Countersign):
        self.envoy, self.countersign = envoy, countersign

    def request(self, path: str, headers=(), method="GET") -> Answer:
        connection = HTTPConnection("127.0.0.1", self.envoy.port, timeout=PATIENCE_SECONDS)
        try:
            connection.putrequest(method, path)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def call(self, metadata=()):
        """A gRPC call to the application: the metadata that it saw, or the error."""
        with grpc.insecure_channel(f"127.0.0.1:{self.envoy.port}") as channel:
            call = channel.unary_unary("/orders.v1.Orders/Get")
            try:
                return json.loads(call(b"", timeout=PATIENCE_SECONDS, metadata=metadata)), None
            except grpc.RpcError as error:
                return None, error


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


def identity_in(headers: list) -> dict[str, list[str]]:
    """What a lenient application would take for the identity."""
    found = {}
    for name, value in headers:
        name = name.lower().replace("_", "-")
        if name in IDENTITY:
            found.setdefault(name, []).append(value)
    return found


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} is not {expected!r}")


class Checks:
    """Each `check_` method is one sentence that must hold."""

    def __init__(self, gateway: Gateway, channel):
        self.gateway = gateway
        self.auth = auth_service_pb2_grpc.AuthServiceStub(channel)
        email = f"{uuid.uuid4()}@example.org"
        self.auth.Register(pb.RegisterRequest(email=email, password=PASSWORD), timeout=PATIENCE_SECONDS)
        self.email, self.user = email, self.log_in(email)
        valid = self.auth.ValidateToken(pb.ValidateTokenRequest(access_token=self.user.access_token))
        self.identity = {
            "x-countersign-user-id": [valid.user_id],
            "x-countersign-session-id": [self.user.session_id],
        }

    def log_in(self, email: str):
        request = pb.LoginRequest(email=email, password=PASSWORD)
        return self.auth.Login(request, timeout=PATIENCE_SECONDS).tokens

    def refused(self, answer: Answer, status: int, reason: str, challenge: str):
        equal((answer.status, answer.reason()), (status, reason))
        if not answer.headers.get("www-authenticate", "").startswith(challenge):
            raise AssertionError(answer.headers)
        equal(answer.headers["x-request-id"], answer.detail("RequestInfo")["requestId"])

    def check_the_identity_is_injected_and_what_the_client_sent_is_removed(self):
        answer = self.gateway.request("/orders", [*FORGED, bearer(self.user.access_token), *FORGED])
        equal(answer.status, 200)
        equal(identity_in(answer.json()), self.identity)
        equal([v for n, v in answer.json() if n.lower() == "authorization"], [bearer(self.user.access_token)[1]])

    def check_roles_are_injected_and_the_token_is_removed_where_configured(self):
        equal(self.gateway.request("/admin/", [bearer(self.user.access_token)]).status, 403)
        self.gateway.countersign.grant(self.email, "admin")
        admin = self.log_in(self.email)
        answer = self.gateway.request("/admin/", [*FORGED, bearer(admin.access_token)])
        equal(answer.status, 200)
        seen = identity_in(answer.json())
        equal((seen["x-countersign-roles"], seen["x-countersign-session-id"]), (["admin"], [admin.session_id]))
        equal([n for n, _ in answer.json() if n.lower() == "authorization"], [])

    def check_no_token_is_401_without_an_error_code(self):
        self.refused(self.gateway.request("/orders"), 401, "TOKEN_MISSING", 'Bearer realm="')

    def check_a_bad_token_is_401(self):
        for headers in [[bearer("garbage")], [bearer(self.user.access_token)] * 2]:
            answer = self.gateway.request("/orders", headers)
            self.refused(answer, 401, "TOKEN_INVALID", 'Bearer error="invalid_token"')

    def check_a_token_ended_by_logout_is_401_at_once(self):
        tokens = self.log_in(self.email)
        equal(self.gateway.request("/orders", [bearer(tokens.access_token)]).status, 200)
        self.auth.Logout(pb.LogoutRequest(refresh_token=tokens.refresh_token))
        answer = self.gateway.request("/orders", [bearer(tokens.access_token)])
        self.refused(answer, 401, "TOKEN_REVOKED", 'Bearer error="invalid_token"')

    def check_a_weak_login_is_told_to_step_up(self):
        answer = self.gateway.request("/transfers/", [bearer(self.user.access_token)])
        self.refused(answer, 401, "STEP_UP_REQUIRED", 'Bearer error="insufficient_user_authentication"')
        if 'acr_values="urn:countersign:acr:2 urn:countersign:acr:phr"' not in answer.headers["www-authenticate"]:
            raise AssertionError(answer.headers)

    def check_a_route_with_optional_login_passes_strangers_without_identity(self):
        answer = self.gateway.request("/catalogue/", FORGED)
        equal((answer.status, identity_in(answer.json())), (200, {}))
        answer = self.gateway.request("/catalogue/", [bearer(self.user.access_token)])
        equal(identity_in(answer.json()), self.identity)
        equal(self.gateway.request("/catalogue/", [bearer("garbage")]).status, 401)

    def check_a_grpc_client_gets_code_and_details(self):
        seen, _ = self.gateway.call([bearer(self.user.access_token), ("x-countersign-roles", "forged")])
        equal(identity_in(seen), self.identity)
        _, error = self.gateway.call([bearer("garbage")])
        equal(error.code(), grpc.StatusCode.UNAUTHENTICATED)
        equal(error.details(), "The access token is not valid.")
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
        for detail in rpc_status.from_call(error).details:
            detail.Unpack(info) or detail.Unpack(request)
        equal((info.reason, info.domain), ("TOKEN_INVALID", "auth.countersign.v1"))
        equal(request.request_id, dict(error.initial_metadata() or error.trailing_metadata())["x-request-id"])

    def check_jwt_authn_beside_it_turns_forged_tokens_away_and_leaves_revoked_ones_to_us(self):
        answer = self.gateway.request("/reports/", [bearer(self.user.access_token)])
        equal((answer.status, identity_in(answer.json())), (200, self.identity))
        answer = self.gateway.request("/reports/", [bearer("garbage")])
        equal((answer.status, answer.body), (401, b"Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"))
        tokens = self.log_in(self.email)
        self.auth.Logout(pb.LogoutRequest(refresh_token=tokens.refresh_token))
        equal(self.gateway.request("/reports/", [bearer(tokens.access_token)]).reason(), "TOKEN_REVOKED")

    def check_a_preflight_needs_no_token_and_a_refusal_can_be_read_by_the_page(self):
        origin = [("origin", "https://app.example.com")]
        ask = [("access-control-request-method", "GET"), ("access-control-request-headers", "authorization")]
        answer = self.gateway.request("/orders", origin + ask, "OPTIONS")
        equal((answer.status, answer.headers["access-control-allow-origin"]), (200, origin[0][1]))
        answer = self.gateway.request("/orders", origin)
        equal((answer.status, answer.headers["access-control-allow-origin"]), (401, origin[0][1]))
        foreign = [("origin", "https://elsewhere.example.com")]
        answer = self.gateway.request("/orders", foreign + ask, "OPTIONS")
        equal((answer.status, answer.headers.get("access-control-allow-origin")), (401, None))

    def check_a_refusal_is_logged_under_the_id_that_the_client_got(self):
        request_id = self.gateway.request("/orders", [bearer("garbage")]).headers["x-request-id"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if f'"request_id":"{request_id}"' in self.gateway.countersign.log.read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"{request_id} is not in the log")


class FileChecks(Checks):
    """With the file as it is."""

    def check_a_route_that_is_not_asked_about_passes_without_identity(self):
        answer = self.gateway.request("/static/", FORGED)
        equal((answer.status, identity_in(answer.json())), (200, {}))


class RawChecks(Checks):
    """With raw headers, underscores, and one demand misspelt."""

    def check_a_demand_that_is_not_understood_is_503(self):
        answer = self.gateway.request("/misspelt/", [bearer(self.user.access_token)])
        equal(answer.status, 503)


class OutageChecks(Checks):
    """Last, because nothing is left afterwards."""

    def both_are_503(self):
        start = time.monotonic()
        answer = self.gateway.request("/orders", [bearer(self.user.access_token)])
        equal(answer.status, 503)
        _, error = self.gateway.call([bearer(self.user.access_token)])
        equal(error.code(), grpc.StatusCode.UNAVAILABLE)
        if time.monotonic() - start > PATIENCE_SECONDS / 2:
            raise AssertionError("the time-out of the filter does not hold")

    def check_away_or_slow_is_503_and_not_403(self):
        process = self.gateway.countersign.process
        os.kill(process.pid, signal.SIGSTOP)
        try:
            self.both_are_503()
        finally:
            os.kill(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.gateway.request("/orders", [bearer(self.user.access_token)]).status != 200:
            if time.monotonic() > deadline:
                raise AssertionError("it does not come back")
            time.sleep(0.1)
        self.gateway.countersign.stop()
        self.both_are_503()


def raw_config(config: str) -> str:
    changes = [
        ("headers_with_underscores_action: DROP_HEADER", "headers_with_underscores_action: ALLOW"),
        ("failure_mode_allow: false", "failure_mode_allow: false\n                      encode_raw_headers: true"),
        ("prefix: /static/", "prefix: /misspelt/"),
        ("disabled: true", 'check_settings: {context_extensions: {required_role: "admin"}}'),
    ]
    for old, new in changes:
        if config.count(old) != 1:
            raise SystemExit(f"{old!r} is not in {CONFIG} once")
        config = config.replace(old, new)
    return config


def run(checks: Checks, only: type) -> tuple[int, int]:
    passed = failed = 0
    for name in sorted(vars(only) if only is OutageChecks else dir(only)):
        if not name.startswith("check_"):
            continue
        try:
            getattr(checks, name)()
            passed += 1
        except Exception as error:
            failed += 1
            print(f"FAILED {only.__name__} {name}: {type(error).__name__}: {error}")
    return passed, failed


def main() -> int:
    binary, folder, program = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    countersign = Countersign(binary, folder)
    places = {
        "countersign:50051": countersign.grpc_port,
        "countersign:8080": countersign.http_port,
        "application:8000": Application.start(),
        "application:9000": GrpcApplication.start(),
    }
    config, running, passed, failed = CONFIG.read_text(), [countersign], 0, 0
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{countersign.grpc_port}")
        envoys = [("envoy-file", config, FileChecks), ("envoy-raw", raw_config(config), RawChecks)]
        for name, text, kind in [*envoys, ("envoy-outage", config, OutageChecks)]:
            envoy = Envoy(program, name, text, places, folder)
            running.append(envoy)
            counts = run(kind(Gateway(envoy, countersign), channel), kind)
            passed, failed = passed + counts[0], failed + counts[1]
    finally:
        for program in running:
            program.stop()
    print(f"gateway: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
