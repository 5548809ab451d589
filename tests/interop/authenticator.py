"""Shows that an authenticator app written by others reads our otpauth URIs, and that its codes are accepted.

    python authenticator.py BINARY FOLDER

pyotp stands for the app. Issuer and addresses hold what has to be escaped in a URI.
"""

import sys
import time
from pathlib import Path

import grpc
import pyotp

from countersign.auth.v1 import account_service_pb2 as account_pb
from countersign.auth.v1 import account_service_pb2_grpc as account_grpc
from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc
from programs import PASSWORD, PATIENCE_SECONDS, Countersign

ISSUER = "Söhne & Co / 100% = Accounts?#+"
EMAILS = ["ada@example.org", "ada+work&play=50%/a?b#c@example.org", "jürgen'o'neill~{x}@bücher.example"]
STEP_SECONDS = 30


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} is not {expected!r}")


def check(channel: grpc.Channel, email: str):
    auth = auth_service_pb2_grpc.AuthServiceStub(channel)
    account = account_grpc.AccountServiceStub(channel)
    call = {"timeout": PATIENCE_SECONDS, "wait_for_ready": True}
    auth.Register(pb.RegisterRequest(email=email, password=PASSWORD), **call)
    login = pb.LoginRequest(email=email, password=PASSWORD)
    tokens = auth.Login(login, **call).tokens
    bearer = {**call, "metadata": [("authorization", f"Bearer {tokens.access_token}")]}
    begun = account.BeginTotpEnrollment(account_pb.BeginTotpEnrollmentRequest(), **bearer)

    app = pyotp.parse_uri(begun.otpauth_uri)
    equal((app.issuer, app.name, app.secret), (ISSUER, email, begun.secret))
    equal((app.digits, app.interval, app.digest().name), (6, STEP_SECONDS, "sha1"))

    enrollment = account_pb.ConfirmTotpEnrollmentRequest(
        enrollment_token=begun.enrollment_token, totp_code=app.now()
    )
    equal(len(account.ConfirmTotpEnrollment(enrollment, **bearer).recovery_codes), 10)
    challenge = auth.Login(login, **call).challenge
    # The code of this step was used by the enrollment; one of the next step may be early.
    code = app.at(int(time.time()) + STEP_SECONDS)
    completion = pb.CompleteLoginRequest(challenge_token=challenge.challenge_token, totp_code=code)
    equal(auth.CompleteLogin(completion, **call).user.email, email)


def main() -> int:
    binary, folder = sys.argv[1], Path(sys.argv[2])
    countersign = Countersign(binary, folder, name="authenticator", COUNTERSIGN_TOTP_ISSUER=ISSUER)
    passed, failed = 0, 0
    try:
        with grpc.insecure_channel(f"127.0.0.1:{countersign.grpc_port}") as channel:
            for email in EMAILS:
                try:
                    check(channel, email)
                    passed += 1
                except Exception as error:
                    failed += 1
                    print(f"FAILED {email}: {type(error).__name__}: {error}")
    finally:
        countersign.stop()
    print(f"authenticator app: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
