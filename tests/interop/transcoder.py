"""Shows that JSON over HTTP works through a real Envoy, errors included, with deploy/proxies/envoy/countersign.yaml.

    python transcoder.py BINARY FOLDER ENVOY DESCRIPTORS

DESCRIPTORS is the descriptor set that docs/json.md tells how to make.
"""

import json
import sys
import uuid
from http.client import HTTPConnection
from pathlib import Path

import grpc

from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc
from programs import PASSWORD, PATIENCE_SECONDS, Countersign, Envoy

CONFIG = Path("deploy/proxies/envoy/countersign.yaml")
RPC = "type.googleapis.com/google.rpc."


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} is not {expected!r}")


class Checks:
    """Each `check_` method is one sentence that must hold."""

    def __init__(self, port: int):
        self.port = port

    def post(self, method: str, body, headers={}) -> tuple[int, dict, dict]:
        text = body if isinstance(body, str) else json.dumps(body)
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            headers = {"content-type": "application/json", **headers}
            connection.request("POST", f"/v1/auth/{method}", text, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            answer = response.read()
            is_json = names.get("content-type", "").startswith("application/json")
            return response.status, names, json.loads(answer) if is_json else answer
        finally:
            connection.close()

    def signed_in(self) -> tuple[str, dict]:
        email = f"{uuid.uuid4()}@example.org"
        status, _, answer = self.post("register", {"email": email, "password": PASSWORD, "displayName": "Ada"})
        equal((status, answer["user"]["email"]), (200, email))
        status, _, answer = self.post("login", {"email": email, "password": PASSWORD})
        equal((status, answer["tokens"]["tokenType"]), (200, "Bearer"))
        return email, answer["tokens"]

    def refused(self, answer, http: int, code: int, reason: str) -> dict:
        """The details of a failure, by type."""
        status, headers, body = answer
        equal(status, http)
        equal((body["code"], bool(body["message"])), (code, True))
        details = {detail["@type"].removeprefix(RPC): detail for detail in body["details"]}
        equal((details["ErrorInfo"]["reason"], details["ErrorInfo"]["domain"]), (reason, "auth.countersign.v1"))
        equal(details["RequestInfo"]["requestId"], headers["x-request-id"])
        return details

    def check_a_session_from_registration_to_logout(self):
        _, tokens = self.signed_in()
        status, _, valid = self.post("validate", {"accessToken": tokens["accessToken"]})
        equal((status, valid["sessionId"], valid["roles"]), (200, tokens["sessionId"], []))
        # The token may stand in the header, as everywhere.
        bearer = {"authorization": f"Bearer {tokens['accessToken']}"}
        equal(self.post("validate", {}, bearer)[2]["userId"], valid["userId"])
        status, _, answer = self.post("refresh", {"refreshToken": tokens["refreshToken"]})
        equal(status, 200)
        status, _, answer = self.post("logout", {"refreshToken": answer["tokens"]["refreshToken"]})
        equal((status, bool(answer["revocationCursor"])), (200, True))
        self.refused(self.post("validate", {}, bearer), 401, 16, "TOKEN_REVOKED")

    def check_failures_have_code_message_and_reason(self):
        email, tokens = self.signed_in()
        login = self.post("login", {"email": email, "password": "not the right one"})
        self.refused(login, 401, 16, "INVALID_CREDENTIALS")
        self.refused(self.post("register", {"email": email, "password": PASSWORD}), 409, 6, "EMAIL_TAKEN")
        self.refused(self.post("validate", {}), 401, 16, "TOKEN_MISSING")
        demand = {"accessToken": tokens["accessToken"], "requiredRoles": ["admin"]}
        self.refused(self.post("validate", demand), 403, 7, "INSUFFICIENT_ROLE")
        demand = {"accessToken": tokens["accessToken"], "acceptableAcrs": ["urn:countersign:acr:2"]}
        details = self.refused(self.post("validate", demand), 401, 16, "STEP_UP_REQUIRED")
        equal(details["ErrorInfo"]["metadata"], {"acr_values": "urn:countersign:acr:2"})

    def check_invalid_fields_are_named(self):
        answer = self.post("register", {"email": "nobody", "password": "short"})
        details = self.refused(answer, 400, 3, "INVALID_FIELD")
        fields = [violation["field"] for violation in details["BadRequest"]["fieldViolations"]]
        equal(fields, ["email"])

    def check_a_client_that_must_wait_is_told_how_long(self):
        email, _ = self.signed_in()
        for _ in range(40):
            answer = self.post("login", {"email": email, "password": "not the right one"})
            if answer[0] == 429:
                details = self.refused(answer, 429, 8, "ACCOUNT_THROTTLED")
                equal(details["RetryInfo"]["retryDelay"].endswith("s"), True)
                return
        raise AssertionError("no login was throttled")

    def check_what_is_no_request_is_refused(self):
        equal(self.post("login", "{")[0], 400)
        equal(self.post("login", {"no_such_field": 1})[0], 400)
        equal(self.post("login?email=a", {})[0] in (400, 404), True)
        # Envoy passes what it does not know on, and we take no JSON.
        equal(self.post("nonsense", {})[0], 415)

    def check_the_request_id_goes_through(self):
        answer = self.post("validate", {}, {"x-request-id": "from-the-client"})
        equal(self.refused(answer, 401, 16, "TOKEN_MISSING")["RequestInfo"]["requestId"], "from-the-client")

    def check_grpc_goes_through_beside_it(self):
        _, tokens = self.signed_in()
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            auth = auth_service_pb2_grpc.AuthServiceStub(channel)
            request = pb.ValidateTokenRequest(access_token=tokens["accessToken"])
            equal(auth.ValidateToken(request, timeout=PATIENCE_SECONDS).session_id, tokens["sessionId"])


def main() -> int:
    binary, folder, program, descriptors = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    config = CONFIG.read_text().replace("/etc/envoy/countersign.pb", descriptors)
    countersign, passed, failed = Countersign(binary, folder, name="transcoder"), 0, 0
    running = [countersign]
    try:
        envoy = Envoy(program, "envoy-transcoder", config, {"countersign:50051": countersign.grpc_port}, folder)
        running.append(envoy)
        checks = Checks(envoy.port)
        for name in [name for name in dir(checks) if name.startswith("check_")]:
            try:
                getattr(checks, name)()
                passed += 1
            except Exception as error:
                failed += 1
                print(f"FAILED {name}: {type(error).__name__}: {error}")
    finally:
        for process in running:
            process.stop()
    print(f"transcoder: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
