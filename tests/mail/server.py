"""What the SMTP servers have in common: ports, certificates, mailboxes, and their process."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from policy import Policy

USER, PASSWORD = "mailer", "p:a@ss%w/rd"
PATIENCE_SECONDS = 30
HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what: str, seconds: float = PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.1)
    return seen


class Server:
    """A server with three ports: without TLS, with STARTTLS and with implicit TLS. The last two demand authentication.

    A subclass says how it is configured and started. Mails end in folders `new`, one file each.
    """

    name = ""
    # Whether it takes addresses beyond ASCII on the ports with TLS; on the other none does.
    smtputf8 = True

    def __init__(self, folder: Path, certificates: Path):
        self.folder, self.certificates = folder, certificates
        self.policy = Policy()
        self.plain, self.starttls, self.implicit = free_port(), free_port(), free_port()
        self.mail = folder / "mail"
        self.mail.mkdir(parents=True)
        self.mail.chmod(0o777)

    def mails(self) -> list[bytes]:
        return [path.read_bytes() for path in self.mail.glob("**/new/*")]

    def is_listening(self) -> bool:
        for port in (self.plain, self.starttls, self.implicit):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return True

    def start(self):
        self.run()
        wait_until(self.is_listening, f"{self.name} listens; see {self.folder}")


class PackagedServer(Server):
    """A server of a Debian package, in a mount namespace of its own."""

    # The accounts that its package makes, as lines of passwd and group.
    accounts, groups = "", ""
    key_mode = 0o600

    def __init__(self, folder: Path, certificates: Path, packages: Path):
        super().__init__(folder, certificates)
        self.packages, self.process = packages, None
        self.overlay = folder / "overlay"
        (folder / "mount").mkdir()
        for name, lines in [("passwd", self.accounts), ("group", self.groups)]:
            self.write(f"etc/{name}", Path(f"/etc/{name}").read_text() + lines)
        for name in ("tls.crt", "tls.key"):
            shutil.copy(certificates / name, folder / name)
        (folder / "tls.key").chmod(self.key_mode)
        self.configure()

    def inbox(self) -> Path:
        """A folder into which every account may deliver."""
        folder = self.mail / "inbox"
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    def write(self, path: str, text: str):
        path = self.overlay / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def command(self, *program: str) -> list[str]:
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", str(HERE / "namespace.sh")]
        return [*enter, str(self.packages), str(self.folder), *program]

    def output(self, *program: str, **options) -> str:
        done = subprocess.run(self.command(*program), capture_output=True, text=True, timeout=PATIENCE_SECONDS, **options)
        if done.returncode:
            raise SystemExit(f"{self.name}: {program}: {done.stderr}")
        return done.stdout

    def run(self):
        log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(self.command(*self.program), stdout=log, stderr=log)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            wait_until(lambda: not self.is_listening(), f"{self.name} stops")
            self.process = None
