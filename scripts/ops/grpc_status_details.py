"""Reads the reason out of `grpc-status-details-bin` (google.rpc.Status with google.rpc.ErrorInfo), without its stubs."""

import re

# ErrorInfo's first field is the reason: tag 0x0a, a length, and upper-case text.
REASON = re.compile(rb"google\.rpc\.ErrorInfo\x12.\n.([A-Z][A-Z0-9_]+)", re.DOTALL)


def reason_of(error) -> str:
    """The reason of a failed call, or the name of its code where the server sent none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and (found := REASON.search(value)):
            return found[1].decode()
    return error.code().name
