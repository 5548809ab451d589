"""The proxies, each with its configuration of deploy/proxies and two replicas of Countersign behind it."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

PATIENCE_SECONDS = 20
# Both replicas have the same ports, as in a cluster, so their addresses differ.
REPLICAS = ["127.0.1.1", "127.0.1.2"]


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


class Replica:
    """A server on an address of its own, on a database that it shares."""

    def __init__(self, binary: str, address: str, ports: tuple[int, int], variables: dict, folder: Path):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
        own = {
            "COUNTERSIGN_GRPC_ADDR": f"{address}:{ports[0]}",
            "COUNTERSIGN_HTTP_ADDR": f"{address}:{ports[1]}",
        }
        self.binary, self.env = binary, inherited | variables | own
        self.log = folder / f"countersign-{address}.log"
        self.health = f"http://{address}:{ports[1]}/healthz"
        self.start()

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen([self.binary], env=self.env, stdout=log, stderr=log)
        wait_until(self.is_ready, f"the replica: {self.log}")

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.health, timeout=1) as response:
                return response.status == 200
        except OSError:
            return False

    def begin_stop(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        self.process.kill()
        self.process.wait()


def wait_until(condition, what: str):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not in time: {what}")
        time.sleep(0.05)


class Proxy:
    """A proxy on a free port. A subclass says how it is started and reloaded, and what of its configuration is changed."""

    name, config = "", ""
    # Whether it sees NOT_SERVING before the port closes.
    checks_health = False
    # In the configuration: the idle time-out of streams, and a short one in its place.
    idle = {}

    def __init__(self, program: str, ports: tuple[int, int], folder: Path, short_idle=False):
        self.program, self.folder, self.port = program, folder, free_port()
        text = Path(self.config).read_text().replace("0.0.0.0:10000", f"127.0.0.1:{self.port}")
        for old, new in {**self.places(ports), **(self.idle if short_idle else {})}.items():
            if old not in text:
                raise SystemExit(f"{old!r} is not in {self.config}")
            text = text.replace(old, new)
        # Envoy goes by the suffix.
        self.path = folder / f"{self.name}-{self.port}{Path(self.config).suffix}"
        self.path.write_text(text)
        self.log = (folder / f"{self.name}-{self.port}.log").open("w")
        self.processes = [self.run(*self.command())]
        try:
            wait_until(self.is_listening, f"{self.name}: {self.log.name}")
        except SystemExit:
            self.stop()
            raise

    def places(self, ports) -> dict[str, str]:
        found = {f"countersign-{n}:50051": f"{address}:{ports[0]}" for n, address in enumerate(REPLICAS, 1)}
        return {**found, "8080": str(ports[1])}

    def run(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen([self.program, *command], stdout=self.log, stderr=self.log)

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def workers(self) -> set[str]:
        """The processes that serve; after a reload they are others."""
        children = Path(f"/proc/{self.processes[0].pid}/task/{self.processes[0].pid}/children")
        return set(children.read_text().split())

    def version(self) -> str:
        told = subprocess.run([self.program, self.version_option], capture_output=True, text=True, check=True)
        return re.search(r"\d+\.\d+\.\d+", told.stdout + told.stderr)[0]

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Nginx(Proxy):
    name, config, version_option = "nginx", "deploy/proxies/nginx/countersign.conf", "-v"
    idle = {"grpc_read_timeout 60s": "grpc_read_timeout 3s", "grpc_send_timeout 60s": "grpc_send_timeout 3s"}

    def places(self, ports):
        found = super().places(ports)
        del found["8080"]
        return {**found, "/run/nginx-countersign.pid": f"{self.folder}/nginx-{self.port}.pid"}

    def command(self):
        return ["-c", str(self.path), "-g", "daemon off;", "-p", str(self.folder)]

    def reload(self):
        self.processes[0].send_signal(signal.SIGHUP)

    def stop(self):
        # The master ends its workers; killed, it would leave them.
        self.processes[0].terminate()
        self.processes[0].wait()


class Haproxy(Proxy):
    name, config, version_option = "HAProxy", "deploy/proxies/haproxy/countersign.cfg", "-v"
    checks_health = True
    idle = {"timeout client 60s": "timeout client 3s", "timeout server 60s": "timeout server 3s"}

    def command(self):
        return ["-W", "-f", str(self.path)]

    def reload(self):
        self.processes[0].send_signal(signal.SIGUSR2)

    def stop(self):
        self.processes[0].terminate()
        self.processes[0].wait()


class Caddy(Proxy):
    name, config, version_option = "Caddy", "deploy/proxies/caddy/Caddyfile", "version"

    def places(self, ports):
        self.admin = f"127.0.0.1:{free_port()}"
        found = super().places(ports)
        del found["8080"]
        return {**found, "127.0.0.1:2019": self.admin, "http://:10000": f"http://127.0.0.1:{self.port}"}

    def command(self):
        return ["run", "--adapter", "caddyfile", "--config", str(self.path)]

    # Caddy 2.6 loses calls in a reload, so docs/proxies.md advises another way.
    reload = None


class Envoy(Proxy):
    name, config, version_option = "Envoy", "deploy/proxies/envoy/countersign.yaml", "--version"
    checks_health = True
    idle = {"stream_idle_timeout: 60s": "stream_idle_timeout: 3s"}
    descriptors = ""

    def places(self, ports):
        self.epoch, self.base = 0, str(free_port())
        endpoints = [
            "{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}" % (address, ports[0])
            for address in REPLICAS
        ]
        name = "{endpoint: {address: {socket_address: {address: countersign, port_value: 50051}}}}"
        return {
            name: ", ".join(endpoints),
            "address: 0.0.0.0, port_value: 10000": f"address: 127.0.0.1, port_value: {self.port}",
            "address: 127.0.0.1, port_value: 9901": "address: 127.0.0.1, port_value: 0",
            "/etc/envoy/countersign.pb": self.descriptors,
        }

    def command(self):
        times = ["--drain-time-s", "3", "--parent-shutdown-time-s", "5", "--concurrency", "1"]
        epoch = ["--base-id", self.base, "--restart-epoch", str(self.epoch)]
        return ["--config-path", str(self.path), "--log-level", "warning", *times, *epoch]

    def reload(self):
        """Hot restart: a new process takes the sockets over, the old one finishes its calls."""
        self.epoch += 1
        self.processes.append(self.run(*self.command()))

    def workers(self):
        return {str(process.pid) for process in self.processes if process.poll() is None}
