"""What a microservice adds to be protected by Countersign: an interceptor that validates tokens.

    channel = connect("https://auth.example.org:443")    # of connect.py
    server = grpc.server(executor, interceptors=[RequireToken(TokenValidator(channel))])

The stubs under `countersign.auth.v1` are generated from `proto/` (see README.md one folder up).
"""

from collections.abc import Collection

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from countersign.auth.v1 import auth_service_pb2, auth_service_pb2_grpc

ERROR_DOMAIN = "auth.countersign.v1"


def error_reason(error: grpc.RpcError) -> str:
    """The stable reason of a failure, such as TOKEN_EXPIRED; empty when Countersign gave none.

    Decide by this, or by the status code; never by the message.
    """
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return info.reason
    return ""


class TokenValidator:
    """Asks Countersign whether an access token is good."""

    def __init__(
        self, channel: grpc.Channel, audience: str = "", deadline_seconds: float = 0.5
    ) -> None:
        # One channel per process is enough: calls share its connection.
        self._auth = auth_service_pb2_grpc.AuthServiceStub(channel)
        self._audience = audience
        self._deadline_seconds = deadline_seconds

    def validate(
        self, access_token: str, required_roles: Collection[str] = ()
    ) -> auth_service_pb2.ValidateTokenResponse:
        """Returns the token's claims, or raises `grpc.RpcError`; see `error_reason`."""
        request = auth_service_pb2.ValidateTokenRequest(
            access_token=access_token,
            audience=self._audience,
            required_roles=required_roles,
        )
        # Without a deadline, a caller would wait for as long as the network likes.
        return self._auth.ValidateToken(request, timeout=self._deadline_seconds)


class RequireToken(grpc.ServerInterceptor):
    """Lets a unary call through only with a good `authorization: Bearer` token."""

    def __init__(self, validator: TokenValidator) -> None:
        self._validator = validator

    def intercept_service(self, continuation, handler_call_details):
        metadata = dict(handler_call_details.invocation_metadata)
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _refuse(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
        try:
            self._validator.validate(token)
        except grpc.RpcError as error:
            if error.code() in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.PERMISSION_DENIED,
            ):
                return _refuse(error.code(), error_reason(error))
            # No answer is not a "no": the client shall try again, not log in again.
            return _refuse(grpc.StatusCode.UNAVAILABLE, "cannot validate tokens right now")
        return continuation(handler_call_details)


def _refuse(code: grpc.StatusCode, message: str) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        lambda request, context: context.abort(code, message)
    )
