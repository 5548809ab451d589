"""Starts the real programs that the gateway tests need: Countersign, Envoy, and an application behind it."""

import base64
import json
import os
import re
import secrets
import subprocess
import threading
import time
import urllib.request
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc

PATIENCE_SECONDS = 20
PASSWORD = "a mill that weaves algebra"


class Countersign:
    """A server with a database of its own. Its log is a file of JSON lines."""

    def __init__(self, binary: str, folder: Path, name: str = "gateway", **variables: str):
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")} | {
            "COUNTERSIGN_PROFILE": "test",
            "COUNTERSIGN_GRPC_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_HTTP_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_DATABASE_URL": f"sqlite://{folder}/{name}.db",
            "COUNTERSIGN_MASTER_KEYS": "v1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "COUNTERSIGN_ISSUER": "https://auth.example.com",
            "COUNTERSIGN_ARGON2_MEMORY_KIB": "64",
            "COUNTERSIGN_ARGON2_ITERATIONS": "1",
            "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND": "0",
            "COUNTERSIGN_LOG_FORMAT": "json",
            **variables,
        }
        self.binary, self.log = binary, folder / f"{name}.log"
        self.start()

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [self.binary], env=self.env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self.process.stdout.readline()
        told = re.search(r" grpc=\S+:(\d+) http=\S+:(\d+) ", line)
        if not told:
            raise SystemExit(f"Countersign did not start: {line}{self.log.read_text()}")
        self.grpc_port, self.http_port = int(told[1]), int(told[2])
        # So that the pipe never fills: with some settings the log goes there.
        threading.Thread(target=self.copy_output, daemon=True).start()

    def copy_output(self):
        with self.log.open("a") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()

    def grant(self, email: str, role: str):
        command = [self.binary, "users", "grant", email, role]
        subprocess.run(command, env=self.env, check=True, capture_output=True, timeout=PATIENCE_SECONDS)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Application(BaseHTTPRequestHandler):
    """Answers every request with the headers that it has seen, duplicates included."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    @classmethod
    def start(cls) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), cls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]


class GrpcApplication(grpc.GenericRpcHandler):
    """Answers every unary call with the metadata that it has seen, as JSON."""

    def service(self, details):
        seen = json.dumps([(key, value) for key, value in details.invocation_metadata if isinstance(value, str)])
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: seen.encode())

    @classmethod
    def start(cls) -> int:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((cls(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        cls.server = server
        return port


class Envoy:
    """An Envoy with a configuration of deploy/, which names hosts and ports of a deployment: `places` says where they are."""

    def __init__(self, program: str, name: str, config: str, places: dict[str, int], folder: Path):
        config = config.replace("address: 127.0.0.1, port_value: 9901", "address: 127.0.0.1, port_value: 0")
        config = re.sub(r"address: 0\.0\.0\.0, port_value: \d+", "address: 127.0.0.1, port_value: 0", config)
        for place, port in places.items():
            host, _, known = place.partition(":")
            old = f"address: {host}, port_value: {known}"
            if old not in config:
                raise SystemExit(f"{name}: {place} is not in the configuration")
            config = config.replace(old, f"address: 127.0.0.1, port_value: {port}")
        path, admin = folder / f"{name}.yaml", folder / f"{name}.admin"
        path.write_text(config)
        self.log = folder / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [program, "--config-path", str(path), "--admin-address-path", str(admin)]
                + ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"],
                stdout=log,
                stderr=log,
            )
        self.port = self.wait_for_port(admin)

    def wait_for_port(self, admin: Path) -> int:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                url = f"http://{admin.read_text()}/listeners?format=json"
                with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
                    listeners = json.load(response).get("listener_statuses", [])
                if listeners:
                    return listeners[0]["local_address"]["socket_address"]["port_value"]
            except (OSError, ValueError):
                pass
            time.sleep(0.1)
        raise SystemExit(f"Envoy did not start: {self.log.read_text()}")

    def stop(self):
        self.process.kill()
        self.process.wait()
