"""Breaks two replicas on one PostgreSQL in ten ways; scripts/gameday starts it.

    gameday.py BINARY POSTGRES_BIN POSTGRES_FOLDER URL [--picture PROMETHEUS FILE] [NUMBER...]

FILE gets the dashboard as an SVG, with a line where each fault began.
"""

import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from picture import draw
from postgres import Postgres
from prometheus import Prometheus, wait_for
from service import Client, Replica, outcome
from traffic import AGAIN, Traffic

BROKEN_SECONDS = 5
HEALS_WITHIN_SECONDS = 30


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Gameday:
    def __init__(self, binary: str, postgres: Postgres, folder: Path):
        self.postgres, self.notes, self.faults, self.marks = postgres, [], [], []
        self.a, self.b = self.replicas = [
            # Fixed ports: a replica that comes back is found where it was.
            Replica(binary, folder, name, COUNTERSIGN_DATABASE_URL=postgres.url(),
                    COUNTERSIGN_GRPC_ADDR=f"127.0.0.1:{free_port()}", COUNTERSIGN_HTTP_ADDR=f"127.0.0.1:{free_port()}",
                    COUNTERSIGN_SHUTDOWN_DELAY="1s",
                    COUNTERSIGN_DATABASE_POOL_SIZE="8", COUNTERSIGN_MAX_SESSIONS_PER_USER="10000",
                    COUNTERSIGN_ARGON2_MEMORY_KIB="1024", COUNTERSIGN_ARGON2_ITERATIONS="1").start()
            for name in "ab"
        ]
        self.traffic = Traffic(self.replicas)

    def must(self, holds: bool, what: str):
        if not holds:
            self.faults.append(what)

    # The ten. Each breaks something, waits, and mends it; a text in `notes` is printed.

    def replica_killed(self):
        """Replica a is killed without warning (kill -9), and started again."""
        self.a.kill()
        time.sleep(BROKEN_SECONDS)
        self.a.start()

    def replica_stopped(self):
        """Replica a is stopped as in a rollout (SIGTERM), and started again."""
        code = self.a.stop()
        self.notes.append(f"exit code {code}")
        self.must(code == 0, "a stop must end with 0")
        self.a.start()

    def database_crashes(self):
        """PostgreSQL ends at once (immediate shutdown), and is started again."""
        self.postgres.control("stop", "-m", "immediate")
        time.sleep(BROKEN_SECONDS)
        self.postgres.control("restart")

    def database_freezes(self):
        """PostgreSQL's processes stand still (SIGSTOP): connections stay open and nothing answers."""
        self.postgres.freeze()
        time.sleep(BROKEN_SECONDS)
        self.postgres.thaw()

    def connections_cut(self):
        """All connections of the service are ended by the server, five times."""
        for _ in range(BROKEN_SECONDS):
            self.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign'")
            time.sleep(1)

    def database_read_only(self):
        """The database accepts no writes (as a standby after a fail-over)."""
        self.postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        self.postgres.sql("SELECT pg_reload_conf()")
        time.sleep(BROKEN_SECONDS)
        self.postgres.sql("SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only")
        self.postgres.sql("SELECT pg_reload_conf()")

    def privilege_taken(self):
        """The service's role loses the right to write sessions."""
        self.postgres.sql("REVOKE INSERT, UPDATE ON sessions FROM countersign")
        time.sleep(BROKEN_SECONDS)
        self.postgres.sql("GRANT INSERT, UPDATE ON sessions TO countersign")

    def lock_held(self):
        """Another transaction holds the row that orders revocations."""
        holder = self.postgres.hold("SELECT * FROM feed_state FOR UPDATE")
        client = Client(self.a.grpc_address, seconds=5)
        logouts = Counter()
        until = time.monotonic() + BROKEN_SECONDS
        while time.monotonic() < until:
            tokens = client.login("traffic@example.org")
            logouts[outcome(client.logout, tokens.refresh_token)] += 1
        holder.kill()
        holder.wait()
        self.notes.append(f"logouts meanwhile: {dict(logouts)}")
        self.must(set(logouts) <= AGAIN, f"logouts that cannot be written must be refused with a retryable error: {logouts}")

    def replica_frozen(self):
        """Replica b stands still for ten seconds while a session ends on replica a."""
        first, second = Client(self.a.grpc_address), Client(self.b.grpc_address)
        tokens = first.login("traffic@example.org")
        self.b.signal(signal.SIGSTOP)
        first.logout(tokens.refresh_token)
        time.sleep(2 * BROKEN_SECONDS)
        self.b.signal(signal.SIGCONT)
        start, answers = time.monotonic(), Counter()
        while (answer := outcome(second.validate, tokens.access_token)) != "TOKEN_REVOKED":
            answers[answer] += 1
            if time.monotonic() > start + HEALS_WITHIN_SECONDS:
                break
        self.notes.append(f"b knows the logout {time.monotonic() - start:.2f} s after it goes on; before: {dict(answers)}")
        self.must(answer == "TOKEN_REVOKED", "a replica that stood still must learn what it missed")

    def login_storm(self):
        """300 logins at once, beside the other traffic."""
        results, latencies = Counter(), []
        client = Client(self.a.grpc_address)
        token = client.login("traffic@example.org").access_token

        def login():
            result = outcome(Client(self.a.grpc_address, seconds=20).login, "traffic@example.org")
            results[result] += 1

        callers = [threading.Thread(target=login) for _ in range(300)]
        for caller in callers:
            caller.start()
        while any(caller.is_alive() for caller in callers):
            start = time.monotonic()
            self.must(outcome(client.validate, token) == "OK", "a validation beside the storm must succeed")
            latencies.append(time.monotonic() - start)
        slowest = max(latencies) * 1000
        self.notes.append(f"logins: {dict(results)}; {len(latencies)} validations beside them, the slowest {slowest:.0f} ms")
        self.must(set(results) <= {"OK", "OVERLOADED", "DATABASE_UNAVAILABLE"}, f"a storm must be answered: {results}")

    def run(self, number: int, fault):
        print(f"\n{number}. {fault.__doc__}", flush=True)
        self.traffic.take()
        self.marks.append(time.time())
        start = time.monotonic()
        fault()
        healed = self.traffic.wait_until_well(HEALS_WITHIN_SECONDS)
        for kind, counted in sorted(self.traffic.take().items()):
            print(f"   {kind:15} " + ", ".join(f"{result} {count}" for result, count in counted.most_common()))
            refused = set(counted) - AGAIN - {"OK"}
            self.must(not refused, f"{fault.__name__}: {kind} must not be told {refused}")
        for note in self.notes:
            print(f"   {note}")
        self.notes = []
        if healed is None:
            self.must(False, f"{fault.__name__}: not well again within {HEALS_WITHIN_SECONDS} s")
        else:
            print(f"   all well {healed:.1f} s after the end of the fault, which took {time.monotonic() - start - healed:.1f} s")

    def close(self):
        self.postgres.thaw()
        self.traffic.stop()
        for replica in self.replicas:
            replica.stop()


FAULTS = [
    Gameday.replica_killed, Gameday.replica_stopped, Gameday.database_crashes, Gameday.database_freezes,
    Gameday.connections_cut, Gameday.database_read_only, Gameday.privilege_taken, Gameday.lock_held,
    Gameday.replica_frozen, Gameday.login_storm,
]


def play(day: Gameday, chosen: list[str]):
    day.traffic.start()
    if day.traffic.wait_until_well(HEALS_WITHIN_SECONDS) is None:
        day.faults.append("it was not well before anything was broken")
    for number, fault in enumerate(FAULTS, 1):
        if not chosen or str(number) in chosen:
            day.run(number, getattr(day, fault.__name__))


def main():
    binary, programs, folder, url, *chosen = sys.argv[1:]
    program = picture = prometheus = None
    if chosen[:1] == ["--picture"]:
        program, picture, chosen = chosen[1], chosen[2], chosen[3:]
    binary, postgres = str(Path(binary).resolve()), Postgres(programs, folder, url)
    postgres.prepare(binary)
    with tempfile.TemporaryDirectory() as temporary:
        day = Gameday(binary, postgres, Path(temporary))
        try:
            if program:
                prometheus = Prometheus(program, Path(temporary), [replica.http_address for replica in day.replicas])
                wait_for("both targets are up", lambda: len(prometheus.get("query", query="up == 1")["result"]) == 2)
            start = time.time()
            play(day, chosen)
            if prometheus:
                Path(picture).write_text(draw(prometheus, start, time.time(), day.marks))
        finally:
            day.close()
            if prometheus:
                prometheus.stop()
    print("\n" + ("\n".join(f"MUST NOT: {fault}" for fault in day.faults) or "Nothing happened that must not."))
    sys.exit(bool(day.faults))


if __name__ == "__main__":
    main()
