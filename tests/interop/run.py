"""Shows that verifiers written by others accept our tokens, before, during and after a rotation.

    python run.py BINARY FOLDER [--node FOLDER] [--envoy PROGRAM]

BINARY is the server; FOLDER is where its databases and logs go, and holds the stubs of the protos.
For every algorithm a real server runs. All of its verifiers judge a stream of fresh tokens while the
key is rotated with `countersign keys rotate`, and not one token may be turned away; tampered ones must
be. Prints a table and exits with 1 when anything was judged wrongly.
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
import urllib.request
from pathlib import Path

import grpc

from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc
from verifiers import AUDIENCE, ISSUER, PATIENCE_SECONDS, Envoy, Joserfc, NodeJose, PyJwt

ALGORITHMS = [("EdDSA", None), ("ES256", None), ("RS256", 2048), ("RS256", 3072)]
PHASES = ["before", "during", "after"]
PASSWORD = "a mill that weaves algebra"
# How often a fresh token is judged while the rotation goes on.
PACE_SECONDS = 0.25
# The successor signs some 16 s after it is published; a slow machine may take its time.
ROTATION_SECONDS = 60


class Server:
    """A server with a database and an algorithm of its own."""

    def __init__(self, binary: str, folder: Path, algorithm: str, bits: int | None):
        self.algorithm, self.name = algorithm, f"{algorithm}-{bits}" if bits else algorithm
        self.binary = binary
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")} | {
            "COUNTERSIGN_PROFILE": "test",
            "COUNTERSIGN_GRPC_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_HTTP_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_DATABASE_URL": f"sqlite://{folder}/{self.name}.db",
            "COUNTERSIGN_MASTER_KEYS": "v1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "COUNTERSIGN_ISSUER": ISSUER,
            "COUNTERSIGN_AUDIENCES": AUDIENCE,
            "COUNTERSIGN_SIGNING_ALGORITHM": algorithm,
            "COUNTERSIGN_SIGNING_KEY_LEAD": "1s",
            "COUNTERSIGN_JWKS_MAX_AGE": "1s",
            "COUNTERSIGN_REVOCATION_POLL_INTERVAL": "100ms",
            "COUNTERSIGN_ARGON2_MEMORY_KIB": "64",
            "COUNTERSIGN_ARGON2_ITERATIONS": "1",
        }
        if bits:
            self.env["COUNTERSIGN_RSA_KEY_BITS"] = str(bits)
        self.log = folder / f"{self.name}.log"
        self.process = subprocess.Popen(
            [binary], env=self.env, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True
        )

    def wait_until_it_listens(self):
        line = self.process.stdout.readline()
        told = re.search(r" grpc=(\S+) http=\S+:(\d+) ", line)
        if not told:
            sys.exit(f"{self.name} did not start: {line}{self.log.read_text()}")
        self.http_port = int(told[2])
        self.jwks_uri = f"http://127.0.0.1:{self.http_port}/.well-known/jwks.json"
        self.auth = auth_service_pb2_grpc.AuthServiceStub(grpc.insecure_channel(told[1]))

    def log_in(self):
        email = "ada@example.org"
        request = pb.RegisterRequest(email=email, password=PASSWORD)
        self.auth.Register(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)
        request = pb.LoginRequest(email=email, password=PASSWORD)
        self.tokens = self.auth.Login(request, timeout=PATIENCE_SECONDS).tokens

    def fresh_token(self) -> str:
        request = pb.RefreshRequest(refresh_token=self.tokens.refresh_token)
        self.tokens = self.auth.Refresh(request, timeout=PATIENCE_SECONDS).tokens
        return self.tokens.access_token

    def rotate(self):
        command = [self.binary, "keys", "rotate"]
        subprocess.run(
            command, env=self.env, check=True, timeout=PATIENCE_SECONDS, stdout=subprocess.DEVNULL
        )

    def published(self) -> list[str]:
        with urllib.request.urlopen(self.jwks_uri, timeout=PATIENCE_SECONDS) as response:
            return [key["kid"] for key in json.load(response)["keys"]]


def kid(token: str) -> str:
    header = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]


def tampered(token: str) -> list[str]:
    """Another signature, another payload under this one, and no signature at all."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["roles"] = ["admin"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    middle = len(signature) // 2
    other = "A" if signature[middle] != "A" else "B"
    bent = signature[:middle] + other + signature[middle + 1 :]
    return [f"{header}.{payload}.{bent}", f"{header}.{forged}.{signature}", f"{header}.{payload}."]


def is_verdict(error: Exception) -> bool:
    """Whether a token was turned away for what it is, and not because the keys could not be had."""
    return not isinstance(error, OSError) and "fetch" not in str(error).lower()


class Trial:
    """One server before all verifiers."""

    def __init__(self, server: Server, libraries: list):
        self.server, self.libraries = server, libraries
        self.accepted = {library: dict.fromkeys(PHASES, 0) for library in libraries}
        self.rejected = dict.fromkeys(libraries, 0)
        self.faults = {library: [] for library in libraries}
        self.broken = None

    def run(self):
        try:
            self.rotation()
        except Exception as error:  # A thread that dies silently would look like success.
            self.broken = f"{type(error).__name__}: {error}"

    def rotation(self):
        server = self.server
        verifiers = [library(server) for library in self.libraries]
        server.log_in()
        old = server.tokens.access_token
        for token in [old, server.fresh_token()]:
            self.judge(verifiers, "before", token)

        server.rotate()
        published = set(server.published())
        deadline = time.monotonic() + ROTATION_SECONDS
        while kid(token := server.fresh_token()) == kid(old):
            if time.monotonic() > deadline:
                raise TimeoutError("the new key never signed")
            self.judge(verifiers, "during", token)
            published |= set(server.published())
            time.sleep(PACE_SECONDS)
        if kid(token) not in published:
            raise AssertionError("the new key signed before it was published")

        # The very first tokens of the new key, then a few more; the old key's are good until they expire.
        for token in [token, old, server.fresh_token(), old]:
            self.judge(verifiers, "after", token)

    def judge(self, verifiers, phase, token):
        for verifier in verifiers:
            library = type(verifier)
            try:
                verifier.check(token)
                self.accepted[library][phase] += 1
            except Exception as error:
                self.faults[library].append(f"{phase}: a good token: {type(error).__name__}: {error}")
        # A verifier that turns everything away would turn these away, too: so only beside good ones.
        for bad in tampered(token) if phase != "during" else []:
            for verifier in verifiers:
                library = type(verifier)
                try:
                    verifier.check(bad)
                    self.faults[library].append(f"{phase}: a tampered token was accepted")
                except Exception as error:
                    if is_verdict(error):
                        self.rejected[library] += 1
                    else:
                        self.faults[library].append(f"{phase}: not judged: {error}")

    def cell(self, library) -> str:
        if self.faults[library] or self.broken:
            return "FAILED"
        counts = "+".join(str(self.accepted[library][phase]) for phase in PHASES)
        return f"{counts}, {self.rejected[library]}"


def print_table(trials: list[Trial], libraries: list):
    print(f"accepted {' + '.join(PHASES)} a rotation, tampered tokens rejected:\n")
    rows = [["", *(trial.server.name for trial in trials)]]
    rows += [[library.name, *(trial.cell(library) for trial in trials)] for library in libraries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    for trial in trials:
        if trial.broken:
            print(f"\n{trial.server.name}: {trial.broken}\n{trial.server.log.read_text()}")
        for library in libraries:
            for fault in trial.faults[library][:5]:
                print(f"\n{trial.server.name}, {library.name}: {fault}")


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--node", type=Path)
    arguments.add_argument("--envoy")
    given = arguments.parse_args()

    processes, libraries = [], [PyJwt, Joserfc]
    try:
        servers = []
        for algorithm, bits in ALGORITHMS:
            servers.append(Server(given.binary, given.folder, algorithm, bits))
            processes.append(servers[-1].process)
        for server in servers:
            server.wait_until_it_listens()
        if given.node:
            processes.append(NodeJose.start(given.node))
            libraries.append(NodeJose)
        if given.envoy:
            processes.append(Envoy.start(given.envoy, servers, given.folder))
            libraries.append(Envoy)
        trials = [Trial(server, libraries) for server in servers]
        threads = [threading.Thread(target=trial.run, daemon=True) for trial in trials]
        for thread in threads:
            thread.start()
        for thread, trial in zip(threads, trials):
            thread.join(2 * ROTATION_SECONDS)
            if thread.is_alive():
                trial.broken = "it did not end in time"
    finally:
        for process in processes:
            process.kill()
            process.wait()
    print_table(trials, libraries)
    cells = [trial.cell(library) for trial in trials for library in libraries]
    failed = cells.count("FAILED")
    print(f"\ninterop: {len(cells) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
