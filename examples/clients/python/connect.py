"""Where Countersign is, and how to reach it: `https://` with TLS, `http://` in plain text."""

import grpc


def connect(url: str) -> grpc.Channel:
    """A channel to `https://HOST:PORT`. `http://` encrypts nothing: it is for development, on one machine.

    A certificate of a private authority: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names the authority's PEM file.
    """
    scheme, _, address = url.partition("://")
    if scheme == "https":
        return grpc.secure_channel(address, grpc.ssl_channel_credentials())
    if scheme == "http":
        return grpc.insecure_channel(address)
    raise ValueError(f"neither https:// nor http://: {url}")
