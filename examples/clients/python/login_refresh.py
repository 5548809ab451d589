"""Walks a running Countersign through register, login, validate, refresh and logout.

    python login_refresh.py https://auth.example.org:443
    python login_refresh.py http://127.0.0.1:50051      # in development: plain text, on this machine

Exits with an error at the first answer that is not the expected one.
"""

import sys
import uuid
from concurrent import futures

import grpc

from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc
from connect import connect
from validate import RequireToken, TokenValidator, error_reason

DEADLINE_SECONDS = 10


def check(is_true: bool, what: str) -> None:
    if not is_true:
        sys.exit(f"wrong answer: {what}")
    print(f"ok  {what}")


def reason_of(call) -> str:
    """Makes a call that must fail, and returns the reason."""
    try:
        call()
    except grpc.RpcError as error:
        return error_reason(error)
    return "(no failure)"


def check_interceptor(validator: TokenValidator, good_token: str) -> None:
    """Protects a service of one method with `RequireToken`, and calls it."""
    handler = grpc.method_handlers_generic_handler(
        "demo.Demo",
        {"Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request)},
    )
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=2), interceptors=[RequireToken(validator)]
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary("/demo.Demo/Echo")

        def call(*metadata):
            return echo(b"hello", metadata=metadata, timeout=DEADLINE_SECONDS)

        check(
            call(("authorization", f"Bearer {good_token}")) == b"hello",
            "a protected service lets a good token through",
        )
        for metadata in ((), (("authorization", "Bearer garbage"),)):
            try:
                call(*metadata)
            except grpc.RpcError as error:
                check(
                    error.code() == grpc.StatusCode.UNAUTHENTICATED,
                    f"a protected service refuses: {error.details()}",
                )
            else:
                sys.exit("wrong answer: a protected service let a bad token through")
    server.stop(grace=None)


def main(url: str) -> None:
    with connect(url) as channel:
        auth = auth_service_pb2_grpc.AuthServiceStub(channel)
        validator = TokenValidator(channel, deadline_seconds=DEADLINE_SECONDS)

        email = f"python-{uuid.uuid4()}@example.com"
        password = "plum-otter-canyon-48-velvet"
        user = auth.Register(
            pb.RegisterRequest(email=email, password=password, display_name="Python"),
            timeout=DEADLINE_SECONDS,
        ).user
        check(user.email == email, "register")

        tokens = auth.Login(
            pb.LoginRequest(email=email, password=password, device_label="example"),
            timeout=DEADLINE_SECONDS,
        ).tokens
        check(tokens.token_type == "Bearer", "login")

        claims = validator.validate(tokens.access_token)
        check(claims.user_id == user.user_id, "validate: the user is the one registered")
        check(claims.session_id == tokens.session_id, "validate: the session is the login's")
        check_interceptor(validator, tokens.access_token)

        refreshed = auth.Refresh(
            pb.RefreshRequest(refresh_token=tokens.refresh_token), timeout=DEADLINE_SECONDS
        ).tokens
        check(refreshed.refresh_token != tokens.refresh_token, "refresh: a new refresh token")
        check(
            validator.validate(refreshed.access_token).session_id == tokens.session_id,
            "refresh: the session goes on",
        )

        reason = reason_of(lambda: validator.validate("garbage"))
        check(reason == "TOKEN_INVALID", f"a garbage token is refused: {reason}")

        auth.Logout(
            pb.LogoutRequest(refresh_token=refreshed.refresh_token), timeout=DEADLINE_SECONDS
        )
        reason = reason_of(lambda: validator.validate(refreshed.access_token))
        check(reason == "TOKEN_REVOKED", f"after logout, the access token is refused: {reason}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: login_refresh.py https://HOST:PORT")
    main(sys.argv[1])
