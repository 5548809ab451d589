"""Mixed traffic and faults for a while; everything has to be flat at the end. scripts/soak starts it.

    soak.py BINARY POSTGRES_BIN POSTGRES_FOLDER URL SECONDS
"""

import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from gameday import free_port
from postgres import Postgres
from service import PASSWORD, Client, Replica, outcome
from traffic import AGAIN

SAMPLE_SECONDS = 1
# Between two visits of one caller.
PACE_SECONDS = 0.2
# Nothing that is measured needs longer to settle: pools are full, threads run, caches are warm.
SETTLE_SHARE = 0.4
# What may be more at the end than in the middle.
MEBIBYTES_MORE, SHARE_MORE = 8, 0.15


class Users(threading.Thread):
    """Users who come, log in on two devices, mistype, look at their sessions, refresh, and go."""

    def __init__(self, replicas: list, ended: threading.Event, counts: Counter):
        super().__init__()
        self.clients = [Client(replica.grpc_address, seconds=5) for replica in replicas]
        self.ended, self.counts = ended, counts

    def run(self):
        number = 0
        while not self.ended.is_set():
            number += 1
            self.counts[outcome(self.visit, f"user{number}-{self.ident}@example.org")] += 1
            self.ended.wait(PACE_SECONDS)

    def visit(self, email: str):
        first, second = self.clients
        first.register(email)
        one, two = first.login(email), second.login(email)
        self.counts[f"wrong password: {outcome(first.login, email, PASSWORD + '?')}"] += 1
        for _ in range(5):
            second.validate(one.access_token)
        first.sessions(two.access_token)
        one = second.refresh(one.refresh_token)
        cursor = first.logout(one.refresh_token)
        answer = outcome(second.validate, one.access_token, cursor)
        if answer not in AGAIN:
            self.counts[f"after logout: {answer}"] += 1


def sample(replica: Replica, postgres: Postgres) -> dict:
    status = Path(f"/proc/{replica.process.pid}/status").read_text()
    return {
        "resident MiB": replica.resident_mebibytes(),
        "open files": replica.open_files(),
        "threads": int(status.split("Threads:")[1].split()[0]),
        "database connections": int(postgres.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'countersign'")),
        "calls in flight": replica.metric("grpc_server_in_flight"),
        "waiting for a connection": replica.metric("countersign_database_waiting"),
        "log lines dropped": replica.metric("countersign_log_lines_dropped_total"),
    }


def grown(samples: list[dict]) -> list[str]:
    """Prints a table of the middle against the end, and returns what has grown."""
    settled = samples[int(len(samples) * SETTLE_SHARE):]
    half = len(settled) // 2
    found = []
    print(f"\n{'replica a':26}{'middle':>10}{'end':>10}{'most':>10}")
    for name in samples[0]:
        middle, end = (statistics.median(s[name] for s in part) for part in (settled[:half], settled[half:]))
        print(f"{name:26}{middle:10.1f}{end:10.1f}{max(s[name] for s in samples):10.1f}")
        slack = MEBIBYTES_MORE if "MiB" in name else 4
        if end > middle * (1 + SHARE_MORE) and end > middle + slack:
            found.append(f"{name} has grown from {middle:.1f} to {end:.1f}")
    return found


def break_something(number: int, second: Replica, postgres: Postgres):
    """One of three faults, in turns. Replica a is the one that is measured, so only b is killed."""
    if number % 3 == 0:
        second.kill()
        time.sleep(1)
        second.start()
    elif number % 3 == 1:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign'")
    else:
        postgres.freeze()
        time.sleep(3)
        postgres.thaw()


def main():
    binary, programs, folder, url, seconds = sys.argv[1:]
    binary, seconds = str(Path(binary).resolve()), float(seconds)
    postgres = Postgres(programs, folder, url)
    postgres.prepare(binary)
    ended, counts, samples = threading.Event(), Counter(), []
    with tempfile.TemporaryDirectory() as logs:
        replicas = [
            Replica(binary, Path(logs), name, COUNTERSIGN_DATABASE_URL=postgres.url(), COUNTERSIGN_DATABASE_POOL_SIZE="8",
                    COUNTERSIGN_GRPC_ADDR=f"127.0.0.1:{free_port()}", COUNTERSIGN_ARGON2_MEMORY_KIB="1024",
                    COUNTERSIGN_ARGON2_ITERATIONS="1", COUNTERSIGN_ACCESS_TOKEN_TTL="20s",
                    COUNTERSIGN_ACCOUNT_FAILURE_LIMIT="100").start()
            for name in "ab"
        ]
        users = [Users(replicas, ended, counts) for _ in range(4)]
        for user in users:
            user.start()
        try:
            start, fault = time.monotonic(), 0
            while (passed := time.monotonic() - start) < seconds:
                # Six faults, none of them near the end.
                if fault < 6 and passed > seconds * (fault + 1) / 8:
                    break_something(fault, replicas[1], postgres)
                    fault += 1
                samples.append(sample(replicas[0], postgres))
                time.sleep(SAMPLE_SECONDS)
        finally:
            postgres.thaw()
            ended.set()
            for user in users:
                user.join()
            codes = [replica.stop() for replica in replicas]
    faults = grown(samples)
    print(f"\n{sum(n for what, n in counts.items() if ':' not in what)} visits: {dict(counts.most_common())}, {fault} faults")
    for what in counts:
        kind, _, answer = what.rpartition(": ")
        right = {"": {"OK"}, "wrong password": {"INVALID_CREDENTIALS"}, "after logout": {"TOKEN_REVOKED"}}[kind]
        if answer not in (right | AGAIN):
            faults.append(f"a caller was told: {what}")
    if codes != [0, 0]:
        faults.append(f"the replicas ended with {codes}")
    if not counts["OK"] or fault < 6:
        faults.append("nothing was tried")
    print("\n".join(f"MUST NOT: {text}" for text in faults) or "Flat.")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
