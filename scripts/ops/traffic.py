"""Steady traffic beside a fault: validations on each replica, and logins and refreshes that take whichever replica answers."""

import threading
import time
from collections import Counter, defaultdict

from service import Client, outcome

# What a client gets that must try elsewhere or again, as docs/api.md says.
AGAIN = {"DATABASE_UNAVAILABLE", "OVERLOADED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
PACE_SECONDS = 0.05
DEADLINE_SECONDS = 3


class Traffic:
    def __init__(self, replicas: list):
        self.replicas = replicas
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.counts = defaultdict(Counter)
        self.last = {}
        self.threads = [threading.Thread(target=self.validations, args=(replica,)) for replica in replicas]
        self.threads += [threading.Thread(target=self.logins), threading.Thread(target=self.refreshes)]

    def clients(self) -> list[Client]:
        return [Client(replica.grpc_address, seconds=DEADLINE_SECONDS) for replica in self.replicas]

    def start(self):
        # The first registration of a debug build on a busy machine takes longer than all others.
        Client(self.replicas[0].grpc_address, seconds=30).register("traffic@example.org")
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join()

    def record(self, kind: str, result: str):
        with self.lock:
            self.counts[kind][result] += 1
            self.last[kind] = (time.monotonic(), result)

    def take(self) -> dict:
        """What was counted since the last time."""
        with self.lock:
            taken, self.counts = self.counts, defaultdict(Counter)
        return taken

    def wait_until_well(self, seconds: float) -> float | None:
        """Waits until every kind of call has succeeded since now; how long that took, or None."""
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            with self.lock:
                told = list(self.last.values())
            # A thread that has ended would be missing, or late for ever.
            well = len(told) == len(self.threads) and all(when > start and result == "OK" for when, result in told)
            if well:
                return time.monotonic() - start
            time.sleep(0.02)
        return None

    def validations(self, replica):
        client = Client(replica.grpc_address, seconds=DEADLINE_SECONDS)
        token = client.login("traffic@example.org").access_token
        while not self.ended.wait(PACE_SECONDS):
            self.record(f"validate on {replica.name}", outcome(client.validate, token))

    def logins(self):
        clients = self.clients()
        while not self.ended.wait(PACE_SECONDS * 4):
            self.record("login", self.anywhere(clients, lambda client: client.login("traffic@example.org")))

    def refreshes(self):
        clients = self.clients()
        held = clients[0].login("traffic@example.org")

        def log_in(client):
            nonlocal held
            held = client.login("traffic@example.org")

        def refresh(client):
            nonlocal held
            held = client.refresh(held.refresh_token)

        while not self.ended.wait(PACE_SECONDS * 2):
            result = self.anywhere(clients, refresh)
            self.record("refresh", result)
            if result not in AGAIN and result != "OK":
                # Logged out, which the table tells; on with another session.
                self.anywhere(clients, log_in)

    def anywhere(self, clients: list, call) -> str:
        """The first replica that answers; the one that did goes first the next time."""
        for number, client in enumerate(list(clients)):
            result = outcome(call, client)
            if result not in AGAIN:
                clients.insert(0, clients.pop(number))
                return result
        return result
