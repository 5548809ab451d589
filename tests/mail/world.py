"""Countersigns for the servers, the users they know, and what is on the wire."""

import smtplib
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import grpc

import authority
import message
from countersign.auth.v1 import account_service_pb2 as account_pb
from countersign.auth.v1 import auth_service_pb2 as pb
from server import PASSWORD, PATIENCE_SECONDS, USER, Server, wait_until
from service import PASSWORD as PASSWORD_OF_USERS
from service import Replica

SECONDS = 20
BUSY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


class Relay:
    """Passes connections on to a port of this machine, and keeps what the client sends."""

    def __init__(self, port: int):
        self.target, self.sent = port, bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.copy, args=(near, far, self.sent), daemon=True).start()
            threading.Thread(target=self.copy, args=(far, near, bytearray()), daemon=True).start()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket, record: bytearray):
        try:
            while data := source.recv(1 << 16):
                record += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class World:
    def __init__(self, binary: str, folder: Path):
        self.binary, self.folder, self.lock = binary, folder, threading.Lock()
        self.certificates = folder / "certificates"
        self.replicas = {}
        message.write_templates(folder / "templates")
        # Its database is what the others begin with.
        self.replica("template", "none", authority.AUTHORITY)

    def replica(self, name: str, url: str, ca: str) -> Replica:
        with self.lock:
            if name in self.replicas:
                return self.replicas[name]
            folder = self.folder / f"countersign-{name}"
            folder.mkdir()
            sender, address = message.SENDER
            replica = Replica(
                self.binary, folder, "countersign",
                COUNTERSIGN_DATABASE_URL=f"sqlite://{folder}/countersign.db",
                COUNTERSIGN_SMTP_URL=url,
                COUNTERSIGN_SMTP_CA_FILE=str(self.certificates / ca),
                COUNTERSIGN_MAIL_FROM=f'"{sender}" <{address}>',
                COUNTERSIGN_MAIL_TEMPLATES=str(self.folder / "templates"),
                COUNTERSIGN_APP_URL=message.APP_URL,
                COUNTERSIGN_ARGON2_MEMORY_KIB="64",
                COUNTERSIGN_ARGON2_ITERATIONS="1",
                COUNTERSIGN_LOG="info",
            )
            if "template" in self.replicas:
                with sqlite3.connect(f"{self.folder}/countersign-template/countersign.db") as source:
                    with sqlite3.connect(f"{folder}/countersign.db") as own:
                        source.backup(own)
            self.replicas[name] = replica.start()
            replica.calls = replica.client()
            return replica

    def route(self, server: Server, kind: str, purpose="", port=None, ca=authority.AUTHORITY, host="localhost", password=PASSWORD):
        """The Countersign that sends to that server in that way; for a purpose one of its own."""
        port = port or getattr(server, kind)
        user = f"{USER}:{quote(password, safe='')}@"
        url = {"plain": f"smtp://{host}:{port}?tls=none", "starttls": f"smtp://{user}{host}:{port}"}.get(
            kind, f"smtps://{user}{host}:{port}"
        )
        return self.replica(f"{server.name}-{kind}{purpose}", url, ca)

    def address(self, server: Server, local: str, domain="") -> str:
        return f"{local}@{domain}{server.name.lower()}.example.org"

    @staticmethod
    def call(method, request):
        """Some forty servers start at the same time, and one that is overloaded says so. That is not what is tried here."""
        for pause in (1, 2, 4):
            try:
                return method(request, timeout=SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                # An earlier attempt went through.
                if error.code() == grpc.StatusCode.ALREADY_EXISTS:
                    return None
                if error.code() not in BUSY:
                    raise
                time.sleep(pause)
        return method(request, timeout=SECONDS, wait_for_ready=True)

    def request(self, replica: Replica, recipient: str):
        """Registers a user and has a reset mail sent."""
        request = pb.RegisterRequest(email=recipient, password=PASSWORD_OF_USERS, display_name=message.NAME)
        self.call(replica.calls.auth.Register, request)
        request = account_pb.RequestPasswordResetRequest(email=recipient)
        self.call(replica.calls.account.RequestPasswordReset, request)

    def reset(self, replica: Replica, token: str):
        request = account_pb.ResetPasswordRequest(reset_token=token, new_password="another mill that weaves algebra")
        self.call(replica.calls.account.ResetPassword, request)

    def delivered(self, server: Server, recipient: str, count=1, seconds=PATIENCE_SECONDS) -> list[bytes]:
        def found():
            mails = [raw for raw in server.mails() if message.recipient_of(raw) == recipient]
            return mails if len(mails) >= count else None

        return wait_until(found, f"a mail to {recipient.partition('@')[0]}", seconds)

    def deliver(self, server: Server, replica: Replica, recipient: str, seconds=PATIENCE_SECONDS, as_seen=None):
        """Sends a mail and checks how it arrives."""
        self.request(replica, recipient)
        raw = self.delivered(server, as_seen or recipient, seconds=seconds)[0]
        return message.check(raw, as_seen or recipient)

    def command(self, replica: Replica, *arguments: str) -> str:
        done = subprocess.run(
            [self.binary, *arguments], env=replica.env, cwd=replica.folder, capture_output=True, text=True, timeout=SECONDS
        )
        if done.returncode:
            raise AssertionError(f"{arguments}: {done.stderr}")
        return done.stdout

    def has_working_tls(self, server: Server) -> bool:
        context = ssl.create_default_context(cafile=self.certificates / authority.AUTHORITY)
        try:
            smtplib.SMTP_SSL("localhost", server.implicit, context=context).quit()
        except ssl.SSLError:
            return False
        return True

    def copies(self, server: Server) -> str:
        """The same mail a second time would have the same id."""
        time.sleep(6)
        ids = Counter(str(message.parse(raw)["Message-ID"]) for raw in server.mails())
        return "one" if set(ids.values()) == {1} else f"up to {max(ids.values())}"

    def stop(self):
        for replica in self.replicas.values():
            replica.kill()
