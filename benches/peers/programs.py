"""The programs that are measured: how each is started, observed through /proc, and ended."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from clients import Target

HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 60
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
COST = "$argon2id$v=19$m=19456,t=2,p=1"
# Where each keeps its password hashes.
HASHES = {
    "countersign": "SELECT password_hash FROM users",
    "better-auth": "SELECT password FROM account",
    "fastapi-users": "SELECT hashed_password FROM user",
}


@dataclass(frozen=True)
class Program:
    """What is measured, under which name, and how it is set up."""

    name: str
    kind: str
    workers: int
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paths:
    """Where the programs of a run are."""

    countersign: Path
    node: Path
    better_auth: Path


class Server:
    """A running program, in a session of its own."""

    def __init__(self, program: Program, paths: Paths, folder: Path) -> None:
        self.program = program
        folder.mkdir()
        self._database = folder / "peer.db"
        self._log = folder / "server.log"
        port = 0 if program.kind == "countersign" else free_port()
        command, variables, ready = self._how(paths, port)
        variables |= program.environment
        if program.kind == "fastapi-users":
            prepare = [sys.executable, HERE / "fastapi-users" / "server.py"]
            subprocess.run(prepare, env=variables, cwd=folder, check=True)
        with self._log.open("wb") as log:
            # `setsid`: Linux divides a core between sessions first, so a server must not share the clients' session.
            self._process = subprocess.Popen(
                command,
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until(*ready)
        except BaseException:
            self.stop()
            raise
        if program.kind == "countersign":
            port = int(re.search(r"grpc=127\.0\.0\.1:(\d+)", self._log.read_text())[1])
        self.target = Target(program.name, program.kind, port, program.workers)

    def _how(self, paths: Paths, port: int) -> tuple[list, dict[str, str], tuple[str, int]]:
        """The command, its environment, and the line that is logged how many times when it serves."""
        variables = {"PATH": os.environ["PATH"], "HOME": str(self._database.parent)}
        workers = self.program.workers
        match self.program.kind:
            case "countersign":
                # All else is as by default: the development profile, its own 2 hashing threads on 2 cores.
                variables |= {
                    "COUNTERSIGN_GRPC_ADDR": "127.0.0.1:0",
                    "COUNTERSIGN_HTTP_ADDR": "127.0.0.1:0",
                    "COUNTERSIGN_DATABASE_URL": f"sqlite://{self._database}",
                    "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND": "0",
                }
                return [paths.countersign], variables, ("grpc=", 1)
            case "better-auth":
                variables["NODE_ENV"] = "production"
                script = paths.better_auth / "server.js"
                command = [paths.node, script, self._database, str(port), str(workers)]
                return command, variables, ("ready", 1)
            case "fastapi-users":
                variables |= {"PEERS_DATABASE": str(self._database), "PYTHONUNBUFFERED": "1"}
                command = [sys.executable, "-m", "uvicorn", "server:app"]
                command += ["--app-dir", HERE / "fastapi-users", "--port", str(port)]
                command += ["--workers", str(workers), "--no-access-log"]
                command += ["--timeout-keep-alive", "600"]
                return command, variables, ("Application startup complete", workers)
        raise ValueError(self.program.kind)

    def _wait_until(self, line: str, times: int) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while self._log.read_text().count(line) < times:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.program.name} did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def cpu_seconds(self) -> dict[int, float]:
        """Processor time, kernel and user, of each of its processes."""
        return {pid: cpu for pid in self._pids() if (cpu := cpu_of(pid)) is not None}

    def check_hashes(self, users: int) -> None:
        """Every user has a hash, and of the cost that is compared."""
        with sqlite3.connect(f"file:{self._database}?mode=ro", uri=True) as database:
            hashes = [row[0] for row in database.execute(HASHES[self.program.kind])]
        if len(hashes) != users or not all(text.startswith(COST) for text in hashes):
            raise RuntimeError(f"{self.program.name}: {len(hashes)} hashes, {hashes[:1]}")

    def log(self) -> str:
        """The end of its log."""
        return self._log.read_text()[-5000:]

    def stop(self) -> None:
        """Ends its processes, and no others, by their ids."""
        begun = {pid: begin_of(pid) for pid in self._pids()}
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid, begin in begun.items():
            # The same process still, not another that got its id.
            if begin is not None and begin_of(pid) == begin:
                os.kill(pid, signal.SIGKILL)
                end = time.monotonic() + 5
                while begin_of(pid) == begin and time.monotonic() < end:
                    time.sleep(0.01)

    def _pids(self) -> list[int]:
        """Itself and its descendants."""
        pids = [self._process.pid]
        for pid in pids:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    pids += [int(child) for child in children.read_text().split()]
                except OSError:
                    continue
        return pids


def stat_of(pid: int) -> list[str] | None:
    try:
        # After the program's name, which may hold spaces: field 3 of proc(5) is the first.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_of(pid: int) -> float | None:
    fields = stat_of(pid)
    return fields and (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def begin_of(pid: int) -> str | None:
    """When it began, unless it has ended and only waits to be collected."""
    fields = stat_of(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def busy_seconds() -> tuple[float, float]:
    """Processor time of the whole machine that was used, and that the hypervisor took away."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq) / CLOCK_TICKS, steal / CLOCK_TICKS


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
