"""Decides what a server does with a mail, by the name of the recipient, and remembers what it was asked.

Every server asks here over TCP, in the protocol of Postfix's policy servers: attributes up to an empty line, and an action as
the answer. `grey` is deferred once, `stall` is left without an answer once, `refused` is refused until it is let through, and
whoever sends to `late` hears only after a long while that the mail was taken.
"""

import socket
import socketserver
import threading
import time
from collections import Counter

# Longer than Countersign waits for an answer before the content.
STALL_SECONDS = 40
# Shorter than it waits for the answer to the content.
LATE_SECONDS = 35
RECIPIENT, CONTENT = "RCPT", "END-OF-MESSAGE"


class Policy:
    def __init__(self):
        self.asked, self.let_through, self.lock = Counter(), set(), threading.Lock()
        policy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                attributes = {}
                for line in self.rfile:
                    name, _, value = line.decode().rstrip("\n").partition("=")
                    if name:
                        attributes[name] = value
                        continue
                    action = policy.decide(attributes["protocol_state"], attributes["recipient"])
                    try:
                        self.wfile.write(f"action={action}\n\n".encode())
                    except OSError:
                        return

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def decide(self, stage: str, recipient: str) -> str:
        with self.lock:
            self.asked[stage, recipient] += 1
            first = self.asked[stage, recipient] == 1
        kind = recipient.partition("-")[0]
        if (stage, kind) == (RECIPIENT, "grey") and first:
            return "450 4.7.1 come back later"
        if (stage, kind) == (RECIPIENT, "stall") and first:
            time.sleep(STALL_SECONDS)
        if (stage, kind) == (RECIPIENT, "refused") and recipient not in self.let_through:
            return "550 5.1.1 no such mailbox"
        if (stage, kind) == (CONTENT, "late"):
            time.sleep(LATE_SECONDS)
        return "DUNNO"

    def attempts(self, recipient: str) -> int:
        return self.asked[RECIPIENT, recipient]


def ask(port: int, stage: str, recipient: str) -> str:
    """What a server asks that speaks no such protocol itself."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"protocol_state={stage}\nrecipient={recipient}\n\n".encode())
        return connection.makefile().readline().rstrip("\n").removeprefix("action=")
