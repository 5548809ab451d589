"""aiosmtpd, within this process. It also does what no setting makes the others do: it never answers QUIT."""

import asyncio
import ssl
import uuid
from importlib.metadata import version
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from policy import CONTENT, RECIPIENT
from server import PASSWORD, USER, Server


def authenticate(_server, _session, _envelope, _mechanism, data) -> AuthResult:
    # `handled` would mean that the refusal was sent already.
    return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()), handled=False)


class Aiosmtpd(Server):
    name = "aiosmtpd"

    def __init__(self, folder: Path, certificates: Path, _packages: Path):
        super().__init__(folder, certificates)
        self.inbox = self.mail / "new"
        self.inbox.mkdir()
        self.controllers = []

    async def decide(self, stage: str, recipient: str) -> str | None:
        """The refusal, if it is one."""
        loop = asyncio.get_running_loop()
        action = await loop.run_in_executor(None, self.policy.decide, stage, recipient)
        return None if action == "DUNNO" else action

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        refusal = await self.decide(RECIPIENT, address)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        refusal = await self.decide(CONTENT, envelope.rcpt_tos[0])
        # As in a Maildir: whoever reads the inbox sees whole mails only.
        part = self.mail / str(uuid.uuid4())
        part.write_bytes(envelope.original_content)
        part.rename(self.inbox / part.name)
        return refusal or "250 OK"

    async def handle_QUIT(self, _server, _session, envelope):
        if any(recipient.startswith("silent-") for recipient in envelope.rcpt_tos):
            await asyncio.sleep(3600)
        return "221 Bye"

    def run(self):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificates / "tls.crt", self.certificates / "tls.key")
        secure = {"authenticator": authenticate, "auth_required": True, "enable_SMTPUTF8": True}
        handler = self

        class Listener(Controller):
            """Each port with options of its own."""

            def __init__(self, port: int, options: dict, **own):
                self.options = options
                super().__init__(handler, hostname="127.0.0.1", port=port, **own)

            def factory(self):
                return SMTP(handler, hostname="mail.example.net", timeout=60, **self.options)

        # An idle connection is closed after `timeout`, and one with an answer outstanding as well: it must outlast the waits.
        self.controllers = [
            Listener(self.plain, {"enable_SMTPUTF8": False}),
            Listener(self.starttls, {**secure, "tls_context": context, "require_starttls": True}),
            Listener(self.implicit, {**secure, "auth_require_tls": False}, ssl_context=context),
        ]
        for controller in self.controllers:
            controller.start()

    def stop(self):
        for controller in self.controllers:
            controller.stop(no_assert=True)
        self.controllers = []

    def version(self) -> str:
        return version("aiosmtpd")
