"""Calls over TLS with grpcio and grpc-js: what answers, and what each says to a certificate that does not fit.

    python tls.py BINARY FOLDER [--node FOLDER]

BINARY is the server; FOLDER is where its database and certificates go. What the libraries
say is compared with the table of docs/tls.md. Exits with 1 when anything was different.
"""

import argparse
import json
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import grpc

from certificates import make_certificates
from programs import PATIENCE_SECONDS, Countersign

METHOD = "/countersign.auth.v1.AuthService/ValidateToken"
# An access token of one letter: it is refused, and so the call was answered.
REQUEST = b"\x0a\x01x"
PAGE = Path("docs/tls.md")


@dataclass
class Given:
    """Which server a client calls; whose authority it trusts, or none in plain text; whose certificate it shows; for which name it asks."""

    server: str
    trusts: str | None = None
    own: str | None = None
    name: str | None = None


# What is wrong, as the page says it; what the client is given; the reason that the server counts.
MISTAKES = [
    ("no client certificate where one is required", Given("tls", "good"), "no_certificate"),
    ("client certificate of another authority", Given("tls", "good", "other"), "unknown_issuer"),
    ("the client trusts another authority", Given("tls", "other", "good"), None),
    ("the client asks for another name", Given("tls", "good", "good", "auth.example.org"), None),
    ("the client speaks plain text, the server TLS", Given("tls"), "plaintext"),
    ("the client speaks TLS, the server plain text", Given("plain", "good"), "tls_off"),
]


def call_grpcio(address: str, given: Given, folder: Path) -> tuple[str, str]:
    """The name of the status code and its message."""
    read = lambda name, file: (folder / name / file).read_bytes() if name else None
    options = [("grpc.ssl_target_name_override", given.name)] if given.name else []
    if given.trusts:
        pair = read(given.own, "client.key"), read(given.own, "client.crt")
        credentials = grpc.ssl_channel_credentials(read(given.trusts, "bundle.crt"), *pair)
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        try:
            channel.unary_unary(METHOD)(REQUEST, timeout=PATIENCE_SECONDS)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def call_node(program: Path, address: str, given: Given, folder: Path) -> tuple[str, str]:
    path = lambda name, file: str(folder / name / file) if name else None
    told = {
        "address": address,
        "authority": path(given.trusts, "bundle.crt"),
        "key": path(given.own, "client.key"),
        "certificate": path(given.own, "client.crt"),
        "name": given.name,
    }
    command = ["node", program / "tls.mjs", json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    return said["code"], said["details"]


def documented() -> dict[str, list[str]]:
    """The rows of the table: what is wrong, and the cells with what each library says, from code spans."""
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            rows[cells[0]] = cells[1:3]
    return rows


def fits(cell: str, said: str) -> bool:
    """Whether all parts of the message that the page quotes, apart from `…`, occur in it."""
    quoted = re.findall(r"`([^`]*)`", cell)
    return bool(quoted) and all(part.strip() in said for span in quoted for part in span.split("…"))


class Servers:
    """One server that demands client certificates, and one in plain text."""

    def __init__(self, binary: str, folder: Path):
        good = folder / "good"
        self.context = ssl.create_default_context(cafile=good / "bundle.crt")
        tls = {
            "COUNTERSIGN_TLS": "on",
            "COUNTERSIGN_TLS_CERT_FILE": str(good / "tls.crt"),
            "COUNTERSIGN_TLS_KEY_FILE": str(good / "tls.key"),
            "COUNTERSIGN_TLS_CLIENT_CA_FILE": str(good / "bundle.crt"),
            "COUNTERSIGN_TLS_CLIENT_AUTH": "required",
        }
        self.servers = {"tls": Countersign(binary, folder, "tls", **tls), "plain": Countersign(binary, folder, "plain")}

    def address(self, name: str) -> str:
        return f"localhost:{self.servers[name].grpc_port}"

    def refused(self, name: str, reason: str) -> int:
        scheme, context = ("https", self.context) if name == "tls" else ("http", None)
        url = f"{scheme}://localhost:{self.servers[name].http_port}/metrics"
        with urllib.request.urlopen(url, context=context, timeout=PATIENCE_SECONDS) as answer:
            text = answer.read().decode()
        return int(re.search(rf'handshakes_refused_total{{reason="{reason}"}} (\d+)', text)[1])

    def counts(self, name: str, reason: str, before: int) -> bool:
        """Whether it counts more than before, soon: a refused client may read its alert first."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.refused(name, reason) <= before:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def stop(self):
        for server in self.servers.values():
            server.stop()


def check(servers: Servers, library: str, column: int, call, folder: Path) -> list[str]:
    """Makes a good call and the bad ones. Returns what was not as it should be."""
    code, message = call(servers.address("tls"), Given("tls", "good", "good"), folder)
    print(f"{library}: with the right certificates: {code}: {message}")
    wrong = [] if code == "UNAUTHENTICATED" else [f"{library}: the good call was not answered: {code}: {message}"]
    rows = documented()
    for mistake, given, reason in MISTAKES:
        before = servers.refused(given.server, reason) if reason else 0
        code, message = call(servers.address(given.server), given, folder)
        print(f"{library}: {mistake}: {code}: {message}")
        if code != "UNAVAILABLE":
            wrong.append(f"{library}: {mistake}: {code}, not UNAVAILABLE")
        if not fits(rows.get(mistake, ["", ""])[column], message):
            wrong.append(f"{library}: {mistake}: {PAGE} has something else than: {message}")
        if reason and not servers.counts(given.server, reason, before):
            wrong.append(f"{library}: {mistake}: the server does not count {reason}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--node", type=Path)
    arguments, _ = parser.parse_known_args()
    folder = arguments.folder
    for name in ("good", "other"):
        make_certificates(folder / name, issuer=f"the {name} authority")
    servers = Servers(arguments.binary, folder)
    try:
        wrong = check(servers, "grpcio", 0, call_grpcio, folder)
        if arguments.node:
            node = lambda *given: call_node(arguments.node, *given)
            wrong += check(servers, "grpc-js", 1, node, folder)
    finally:
        servers.stop()
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
