"""The clients: processes of their own that register users and keep logging them in, the same way for every program."""

import json
import multiprocessing
import resource
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from urllib.parse import urlencode

PASSWORD = "plum-otter-canyon-48-velvet"
DEADLINE_SECONDS = 30


@dataclass(frozen=True)
class Target:
    """What a client must know of a running program."""

    name: str
    kind: str  # countersign, better-auth or fastapi-users
    port: int
    workers: int


@dataclass
class Sample:
    """What came of one turn: seconds that each login took, and the clock at the last answer."""

    latencies: list[float] = field(default_factory=list)
    ended: float = 0.0
    cpu: float = 0.0

    def add(self, other: "Sample") -> None:
        self.latencies += other.latencies
        self.ended = max(self.ended, other.ended)
        self.cpu += other.cpu


def email(number: int) -> str:
    return f"user-{number}@example.com"


class Connection:
    """HTTP/1.1 on one kept connection; a request is one write."""

    def __init__(self, target: Target) -> None:
        self._socket = socket.create_connection(("127.0.0.1", target.port), DEADLINE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._is_better_auth = target.kind == "better-auth"

    def close(self) -> None:
        self._socket.close()

    def worker(self) -> str:
        """Which worker of the server has this connection."""
        self._send("GET", "/worker", "text/plain", b"")
        return self._receive().decode()

    def register(self, number: int) -> None:
        who = {"email": email(number), "password": PASSWORD}
        if self._is_better_auth:
            who["name"] = "Ada"
        path = "/api/auth/sign-up/email" if self._is_better_auth else "/auth/register"
        self._send("POST", path, "application/json", json.dumps(who).encode())
        if b'"email"' not in self._receive():
            raise RuntimeError("a registration without a user")

    def login(self, number: int) -> None:
        self.begin_login(number)
        self.end_login()

    def begin_login(self, number: int) -> None:
        if self._is_better_auth:
            body = json.dumps({"email": email(number), "password": PASSWORD})
            self._send("POST", "/api/auth/sign-in/email", "application/json", body.encode())
        else:
            body = urlencode({"username": email(number), "password": PASSWORD})
            self._send("POST", "/auth/login", "application/x-www-form-urlencoded", body.encode())

    def end_login(self) -> None:
        if b"token" not in self._receive():
            raise RuntimeError("a login without a token")

    def _send(self, method: str, path: str, kind: str, body: bytes) -> None:
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise RuntimeError("the server closed the connection")
        return data

    def _receive(self) -> bytes:
        data = self._more()
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, body = data.split(b"\r\n\r\n", 1)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines}
        if "content-length" in headers:
            while len(body) < int(headers["content-length"]):
                body += self._more()
        else:
            while not body.endswith(b"0\r\n\r\n"):
                body += self._more()
        if status.split(" ")[1] not in ("200", "201"):
            raise RuntimeError(f"{status}: {body[:200]!r}")
        return body


class Stub:
    """Countersign by gRPC; the logins of a process share one connection, as gRPC's clients do."""

    def __init__(self, port: int) -> None:
        # Not before it is needed, so that only the clients load it.
        import grpc

        self._pb, services = grpc.protos_and_services("countersign/auth/v1/auth_service.proto")
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._auth = services.AuthServiceStub(self._channel)

    def register(self, number: int) -> None:
        request = self._pb.RegisterRequest(
            email=email(number), password=PASSWORD, display_name="Ada"
        )
        self._auth.Register(request, timeout=DEADLINE_SECONDS)

    def login(self, number: int) -> None:
        request = self._pb.LoginRequest(email=email(number), password=PASSWORD)
        if not self._auth.Login(request, timeout=DEADLINE_SECONDS).tokens.access_token:
            raise RuntimeError("a login without a token")

    def close(self) -> None:
        self._channel.close()


def connections(target: Target, count: int, first_user: int) -> list[Connection]:
    """Opens connections, the same number to each worker of the server.

    Which worker accepts a connection is the operating system's choice, and an idle server's connections often all go to
    one. So a worker that has its share is kept busy with a login while the next connection is opened.
    """
    share = count // target.workers
    kept: dict[str, list[Connection]] = {}
    spare = []
    for _ in range(500):
        if sum(len(of_worker) for of_worker in kept.values()) == share * target.workers:
            break
        busy = [of_worker[0] for of_worker in kept.values() if len(of_worker) == share]
        for connection in busy:
            connection.begin_login(first_user)
        if busy:
            time.sleep(0.01)
        connection = Connection(target)
        of_worker = kept.setdefault(connection.worker(), [])
        (of_worker if len(of_worker) < share else spare).append(connection)
        for connection in busy:
            connection.end_login()
    else:
        raise RuntimeError("the connections could not be spread over the workers")
    for connection in spare:
        connection.close()
    return [connection for of_worker in kept.values() for connection in of_worker]


class Client:
    """One client process: some of the logins that are in flight, each with users of its own."""

    def __init__(self, number: int, clients: int, in_flight: int, users: int) -> None:
        self._slots = range(number, in_flight, clients)
        self._users = {slot: range(slot, users, in_flight) for slot in self._slots}
        self._next = {}
        self._stubs: dict[int, Stub] = {}
        self._open: list = []

    def _stub(self, target: Target) -> Stub:
        if target.port not in self._stubs:
            self._stubs[target.port] = Stub(target.port)
        return self._stubs[target.port]

    def register(self, target: Target) -> None:
        each = self._stub(target) if target.kind == "countersign" else Connection(target)
        for slot in self._slots:
            for number in self._users[slot]:
                each.register(number)

    def connect(self, target: Target) -> None:
        """Connections of a turn, each used once: opening them is not measured."""
        if target.kind == "countersign":
            self._open = [self._stub(target)] * len(self._slots)
        else:
            self._open = connections(target, len(self._slots), self._slots[0])
        for slot, connection in zip(self._slots, self._open, strict=True):
            connection.login(self._users[slot][-1])

    def drive(self, target: Target, seconds: float) -> Sample:
        """Keeps logging in; a login that began in time is waited for."""
        begin_cpu = cpu_of_this_process()
        until = time.monotonic() + seconds
        samples = [Sample() for _ in self._slots]
        failures: list[str] = []

        def keep_logging_in(slot: int, connection, sample: Sample) -> None:
            users = self._users[slot]
            turn = self._next.get((target.name, slot), 0)
            try:
                while (begin := time.monotonic()) < until:
                    connection.login(users[turn % len(users)])
                    sample.ended = time.monotonic()
                    sample.latencies.append(sample.ended - begin)
                    turn += 1
            except Exception:
                failures.append(traceback.format_exc())
            self._next[target.name, slot] = turn

        threads = [
            threading.Thread(target=keep_logging_in, args=arguments)
            for arguments in zip(self._slots, self._open, samples, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(failures[0])
        total = Sample(cpu=cpu_of_this_process() - begin_cpu)
        for sample in samples:
            total.add(sample)
        return total

    def disconnect(self, target: Target) -> None:
        if target.kind != "countersign":
            for connection in self._open:
                connection.close()
        self._open = []


def cpu_of_this_process() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve(pipe, proto: str, *numbers: int) -> None:
    """The main function of a client process: does what it is told until told None."""
    sys.path.insert(0, proto)
    client = Client(*numbers)
    while (order := pipe.recv()) is not None:
        method, *arguments = order
        try:
            pipe.send((True, getattr(client, method)(*arguments)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


class Clients:
    """All client processes."""

    def __init__(self, count: int, in_flight: int, users: int, proto: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, proto, number, count, in_flight, users)
            # As daemons, they end with this process.
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def one_by_one(self, *order) -> None:
        for pipe in self._pipes:
            pipe.send(order)
            self._answer(pipe)

    def together(self, *order) -> list:
        for pipe in self._pipes:
            pipe.send(order)
        return [self._answer(pipe) for pipe in self._pipes]

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            if process.is_alive():
                pipe.send(None)
                process.join(10)

    @staticmethod
    def _answer(pipe):
        went_well, answer = pipe.recv()
        if not went_well:
            raise RuntimeError(answer)
        return answer
