"""Shows what each proxy makes of Countersign's traffic, and prints the table of docs/proxies.md.

    python run.py BINARY FOLDER DATABASE_URL DESCRIPTORS NAME=PROGRAM... [--write]

Two replicas of a real server stand behind each proxy, which has its configuration of deploy/proxies. Exits with 1 when
a cell is not as `MUST` says. `--write` puts the table into docs/proxies.md.
"""

import base64
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2

from countersign.auth.v1 import account_service_pb2, account_service_pb2_grpc
from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc, verifier_service_pb2, verifier_service_pb2_grpc
from proxy_programs import PATIENCE_SECONDS, REPLICAS, Caddy, Envoy, Haproxy, Nginx, Replica, free_port, wait_until

PROXIES = {"envoy": Envoy, "nginx": Nginx, "haproxy": Haproxy, "caddy": Caddy}
PASSWORD = "a mill that weaves algebra"
# The client's address, which is not a trusted proxy.
CLIENT = "127.0.0.2"
# How long streams are watched: several times the short idle time-out of 3 s.
STREAM_SECONDS = 10
CALLERS = 4
# After so long every proxy that checks health has seen NOT_SERVING; so many calls reach both replicas if it has not.
HEALTH_SECONDS, HEALTH_CALLS = 3, 30
# What a gateway that calls in its own name tells about its client.
FORWARDED_USER_AGENT = ["x-forwarded-user-agent", "grpcgateway-user-agent"]
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PAGE = Path("docs/proxies.md")
# What must stand in the cells of a row; a row that is not here tells only how things are.
MUST = {
    "details of errors": r"intact",
    "request id": r"kept",
    "client address": r"right",
    "user agent": r"the client's",
    "user agent of a browser, from a gateway": r"the browser's",
    "WatchRevocations beyond the idle time-out": r"lives",
    "reload of the proxy, calls failed": r"0 of \d+|not tried",
    "a replica stops, calls failed": r"0 of \d+",
}


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} is not {expected!r}")


def relay_from(address: str, port: int, host: str = "127.0.0.1") -> int:
    """A port whose connections reach `port` of `host` from `address`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass
        for end in [source, sink]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept():
        while True:
            near, _ = listener.accept()
            far = socket.create_connection((host, port), source_address=(address, 0))
            for pair in [(near, far), (far, near)]:
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def channel(port: int) -> grpc.Channel:
    # A connection of its own, and no second try that would hide a failed call.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options)


class Traffic:
    """Validations without pause on several connections, and how they ended."""

    def __init__(self, port: int, access_token: str):
        self.port, self.token, self.ends = port, access_token, [Counter() for _ in range(CALLERS)]
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.call, args=(ends,)) for ends in self.ends]
        for thread in self.threads:
            thread.start()

    def call(self, ends: Counter):
        with channel(self.port) as own:
            auth = auth_service_pb2_grpc.AuthServiceStub(own)
            while not self.stopping.is_set():
                try:
                    auth.ValidateToken(pb.ValidateTokenRequest(access_token=self.token), timeout=PATIENCE_SECONDS)
                    ends["OK"] += 1
                except grpc.RpcError as error:
                    ends[error.code().name] += 1
                time.sleep(0.005)

    def count(self) -> int:
        return sum(ends.total() for ends in self.ends)

    def wait_for(self, calls: int):
        goal = self.count() + calls
        wait_until(lambda: self.count() >= goal, f"{calls} calls")

    def stop(self) -> str:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        ends = sum(self.ends, Counter())
        total, good = ends.total(), ends.pop("OK", 0)
        words = ", ".join(f"{count} {name}" for name, count in ends.items())
        return f"{total - good} of {total}" + (f" ({words})" if words else "")


class Trial:
    """One proxy before both replicas. Each `row_` method fills the cell of the row that its docstring names."""

    def __init__(self, kind, program, ports, folder, replicas, user):
        self.kind, self.program, self.ports, self.folder = kind, program, ports, folder
        self.replicas, self.user = replicas, user
        self.proxy = kind(program, ports, folder)
        self.channel = channel(self.proxy.port)
        self.auth = auth_service_pb2_grpc.AuthServiceStub(self.channel)
        request = pb.ValidateTokenRequest(access_token=user.access_token)
        try:
            self.auth.ValidateToken(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)
        except grpc.RpcError:
            self.stop()
            raise

    def failing(self, auth, metadata=()):
        try:
            auth.ValidateToken(pb.ValidateTokenRequest(access_token="garbage"), timeout=PATIENCE_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return error
        raise AssertionError("it succeeded")

    def row_errors(self):
        """details of errors"""
        error = self.failing(self.auth)
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
        for detail in rpc_status.from_call(error).details:
            detail.Unpack(info) or detail.Unpack(request)
        equal((error.code().name, info.reason, bool(request.request_id)), ("UNAUTHENTICATED", "TOKEN_INVALID", True))
        return "intact"

    def row_request_id(self):
        """request id"""
        own = f"own-{uuid.uuid4()}"
        error = self.failing(self.auth, [("x-request-id", own)])
        equal(dict(error.initial_metadata() or error.trailing_metadata())["x-request-id"], own)
        return "kept"

    def row_address(self):
        """client address"""
        own = f"own-{uuid.uuid4()}"
        with channel(relay_from(CLIENT, self.proxy.port)) as far:
            auth = auth_service_pb2_grpc.AuthServiceStub(far)
            self.failing(auth, [("x-request-id", own), ("x-forwarded-for", "203.0.113.9")])
        lines = lambda: [line for replica in self.replicas for line in replica.log.read_text().splitlines() if own in line]
        wait_until(lines, "the line in the log")
        equal(re.search(r'"client":"([^"]*)"', lines()[0])[1], CLIENT)
        return "right"

    def row_user_agent(self):
        """user agent"""
        agent = self.user_agent_of_a_session(self.channel)
        return "the client's" if agent.startswith("grpc-python") else agent

    def user_agent_of_a_session(self, own, metadata=()) -> str:
        request = pb.LoginRequest(email=self.user.email, password=PASSWORD)
        login = auth_service_pb2_grpc.AuthServiceStub(own).Login
        tokens = login(request, metadata=metadata, timeout=PATIENCE_SECONDS).tokens
        bearer = [("authorization", f"Bearer {tokens.access_token}")]
        account = account_service_pb2_grpc.AccountServiceStub(own)
        listed = account.ListSessions(account_service_pb2.ListSessionsRequest(), metadata=bearer, timeout=PATIENCE_SECONDS)
        return next(session.user_agent for session in listed.sessions if session.current)

    def row_user_agent_of_a_browser(self):
        """user agent of a browser, from a gateway"""
        for name in FORWARDED_USER_AGENT:
            equal(self.user_agent_of_a_session(self.channel, [(name, BROWSER)]), BROWSER)
            # From an address that is not a trusted proxy, past the proxy.
            with channel(relay_from(CLIENT, self.ports[0], REPLICAS[0])) as past:
                agent = self.user_agent_of_a_session(past, [(name, BROWSER)])
            if not agent.startswith("grpc-python"):
                raise AssertionError(f"{name} of an untrusted peer is believed: {agent}")
        return "the browser's"

    def row_watch(self):
        """WatchRevocations beyond the idle time-out"""
        return self.stream(self.watch_revocations)

    def row_watch_silent(self):
        """a silent stream (Health.Watch) beyond the idle time-out"""
        return self.stream(lambda own: own.unary_stream("/grpc.health.v1.Health/Watch")(b""))

    def watch_revocations(self, own):
        bearer = [("authorization", f"Bearer {self.user.access_token}")]
        request = verifier_service_pb2.WatchRevocationsRequest()
        return verifier_service_pb2_grpc.VerifierServiceStub(own).WatchRevocations(request, metadata=bearer)

    def stream(self, open_stream) -> str:
        proxy = self.kind(self.program, self.ports, self.folder, short_idle=True)
        try:
            with channel(proxy.port) as own:
                grpc.channel_ready_future(own).result(PATIENCE_SECONDS)
                call, start = open_stream(own), time.monotonic()
                threading.Timer(STREAM_SECONDS, call.cancel).start()
                try:
                    for _ in call:
                        pass
                    return f"ended after {time.monotonic() - start:.0f} s"
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.CANCELLED and time.monotonic() - start >= STREAM_SECONDS - 1:
                        return "lives"
                    return f"{error.code().name} after {time.monotonic() - start:.0f} s"
        finally:
            proxy.stop()

    def row_zreload(self):
        """reload of the proxy, calls failed"""
        if self.proxy.reload is None:
            return "not tried"
        traffic = Traffic(self.proxy.port, self.user.access_token)
        try:
            traffic.wait_for(200)
            before = self.proxy.workers()
            self.proxy.reload()
            wait_until(lambda: self.proxy.workers() - before and not self.proxy.workers() & before, "the reload")
            traffic.wait_for(200)
        finally:
            ended = traffic.stop()
        return ended

    def row_zstop(self):
        """a replica stops, calls failed"""
        traffic = Traffic(self.proxy.port, self.user.access_token)
        try:
            traffic.wait_for(200)
            self.replicas[0].begin_stop()
            self.replicas[0].process.wait(2 * PATIENCE_SECONDS)
            traffic.wait_for(200)
        finally:
            ended = traffic.stop()
            self.replicas[0].start()
        return ended

    def row_zzhealth(self):
        """health checks"""
        replica, own = self.replicas[0], [f"own-{uuid.uuid4()}" for _ in range(HEALTH_CALLS)]
        replica.begin_stop()
        try:
            # NOT_SERVING at once; the port closes later: COUNTERSIGN_SHUTDOWN_DELAY.
            time.sleep(HEALTH_SECONDS)
            for request_id in own:
                self.failing(self.auth, [("x-request-id", request_id)])
            socket.create_connection((REPLICAS[0], self.ports[0])).close()
        finally:
            replica.process.wait(2 * PATIENCE_SECONDS)
            stopped = replica.log.read_text()
            replica.start()
        went_there = any(request_id in stopped for request_id in own)
        equal(went_there, not self.kind.checks_health)
        return "none: calls until the port closes" if went_there else "NOT_SERVING: no call any more"

    def rows(self) -> dict[str, str]:
        cells = {}
        for method in [getattr(self, name) for name in sorted(dir(self)) if name.startswith("row_")]:
            try:
                cells[method.__doc__] = method()
            except Exception as error:
                cells[method.__doc__] = f"FAILED: {type(error).__name__}: {error}".splitlines()[0]
            print(f"{self.kind.name}: {method.__doc__}: {cells[method.__doc__]}", flush=True)
        return cells

    def stop(self):
        self.channel.close()
        self.proxy.stop()


class User:
    def __init__(self, port_of_a_replica: str, replica: Replica):
        self.email = "ada@example.org"
        with grpc.insecure_channel(port_of_a_replica) as own:
            auth = auth_service_pb2_grpc.AuthServiceStub(own)
            request = pb.RegisterRequest(email=self.email, password=PASSWORD)
            auth.Register(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)
            command = [replica.binary, "users", "grant", self.email, "verifier"]
            subprocess.run(command, env=replica.env, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
            request = pb.LoginRequest(email=self.email, password=PASSWORD)
            self.access_token = auth.Login(request, timeout=PATIENCE_SECONDS).tokens.access_token


def table(columns: dict[str, dict[str, str]]) -> str:
    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(cells[row] for cells in columns.values()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    binary, folder, database, descriptors = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    programs = dict(argument.split("=", 1) for argument in sys.argv[5:] if "=" in argument)
    Envoy.descriptors = descriptors
    ports = (free_port(REPLICAS[0]), free_port(REPLICAS[1]))
    variables = {
        "COUNTERSIGN_PROFILE": "test",
        "COUNTERSIGN_DATABASE_URL": database,
        "COUNTERSIGN_MASTER_KEYS": "v1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "COUNTERSIGN_ARGON2_MEMORY_KIB": "64",
        "COUNTERSIGN_ARGON2_ITERATIONS": "1",
        "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND": "0",
        "COUNTERSIGN_TRUSTED_PROXIES": "127.0.0.1/32",
        # As in production: longer than the proxies need to see that health has changed.
        "COUNTERSIGN_SHUTDOWN_DELAY": "5s",
        "COUNTERSIGN_LOG_FORMAT": "json",
    }
    replicas, columns = [], {}
    try:
        for address in REPLICAS:
            replicas.append(Replica(binary, address, ports, variables, folder))
        user = User(f"{REPLICAS[0]}:{ports[0]}", replicas[0])
        for name, program in programs.items():
            trial = Trial(PROXIES[name], program, ports, folder, replicas, user)
            try:
                columns[f"{trial.kind.name} {trial.proxy.version()}"] = trial.rows()
            finally:
                trial.stop()
    finally:
        for replica in replicas:
            replica.stop()
    print("\n" + table(columns))
    if "--write" in sys.argv:
        page = re.sub(r"(<!-- table -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table(columns) + m[2], PAGE.read_text(), flags=re.S)
        PAGE.write_text(page)
    bad = [f"{column}: {row}" for column, cells in columns.items() for row, cell in cells.items() if not re.fullmatch(MUST.get(row, "(?!FAILED).*"), cell)]
    print(f"\nproxies: {len(bad)} cells are not as they must be" + "".join(f"\n  {cell}" for cell in bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
