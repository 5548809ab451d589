"""What is tried with each server. The first line of each function's text is the row of the table."""

import time

import authority
import message
from server import Server, wait_until
from world import Relay, World

NOT_TRIED = "not tried"
NO_TLS = f"{NOT_TRIED}: the server's own TLS fails"
# The server closes an idle connection after this time, or earlier.
IDLE_SECONDS = 4


def needs_tls(case):
    def tried(world: World, server: Server) -> str:
        return case(world, server) if world.has_working_tls(server) else NO_TLS

    tried.__doc__ = case.__doc__
    return tried


def down(world, server):
    """server down, then back: 3 mails"""
    server.start()
    replica = world.route(server, "plain")
    world.deliver(server, replica, world.address(server, "before-1"))
    server.stop()
    recipients = [world.address(server, f"down-{number}") for number in range(3)]
    for recipient in recipients:
        world.request(replica, recipient)
    wait_until(lambda: replica.metric("countersign_mail_errors_total") > 0, "an attempt fails")
    server.start()
    for recipient in recipients:
        message.check(world.delivered(server, recipient)[0], recipient)
    return "all delivered"


def plain(world, server):
    """`tls=none`"""
    world.deliver(server, world.route(server, "plain"), world.address(server, "plain-1"))
    return "delivered"


@needs_tls
def starttls(world, server):
    """STARTTLS and AUTH"""
    world.deliver(server, world.route(server, "starttls"), world.address(server, "starttls-1"))
    return "delivered"


@needs_tls
def implicit(world, server):
    """implicit TLS and AUTH"""
    world.deliver(server, world.route(server, "implicit"), world.address(server, "implicit-1"))
    return "delivered"


def token(world, server):
    """the token of the mail sets a password"""
    replica, recipient = world.route(server, "plain"), world.address(server, "token-1")
    mail = world.deliver(server, replica, recipient)
    world.reset(replica, message.token_of(mail))
    subjects = [str(message.parse(raw)["Subject"]) for raw in world.delivered(server, recipient, count=2)]
    message.equal("subjects", [subject for subject in subjects if "changed" in subject], ["Your password was changed"])
    return "and a second mail tells so"


def ascii_domain(world, server):
    """domain beyond ASCII"""
    seen = world.address(server, "domain-1", "xn--bcher-kva.")
    world.deliver(server, world.route(server, "plain"), world.address(server, "domain-1", "bücher."), as_seen=seen)
    return "delivered"


def no_smtputf8(world, server):
    """mailbox beyond ASCII, server without SMTPUTF8"""
    replica = world.route(server, "plain", "-ascii")
    world.request(replica, world.address(server, "zoë-1"))
    wait_until(lambda: replica.metric("countersign_mails_failed") == 1, "the mail is given up")
    world.deliver(server, replica, world.address(server, "next-1"), seconds=4)
    return "given up, the next is delivered"


@needs_tls
def smtputf8(world, server):
    """mailbox beyond ASCII, SMTPUTF8"""
    if not server.smtputf8:
        return f"{NOT_TRIED}: it has none"
    replica, seen = world.route(server, "starttls"), world.address(server, "सुमित्रा-1", "xn--bcher-kva.")
    world.deliver(server, replica, world.address(server, "सुमित्रा-1", "bücher."), as_seen=seen)
    return "delivered"


def greylisted(world, server):
    """450 to the first attempt"""
    recipient, started = world.address(server, "grey-1"), time.monotonic()
    world.deliver(server, world.route(server, "plain"), recipient, seconds=50)
    message.equal("attempts", server.policy.attempts(recipient), 2)
    if time.monotonic() - started < 20:
        raise AssertionError("the pause was short")
    return "the second is delivered"


def stalled(world, server):
    """no answer to the recipient for 40 s"""
    recipient = world.address(server, "stall-1")
    world.deliver(server, world.route(server, "plain", "-stall"), recipient, seconds=55)
    message.equal("attempts", server.policy.attempts(recipient), 2)
    return "the second attempt is delivered"


def late(world, server):
    """no answer to the content for 35 s"""
    replica, recipient = world.route(server, "plain", "-late"), world.address(server, "late-1")
    world.deliver(server, replica, recipient, seconds=50)
    wait_until(lambda: replica.metric("countersign_mails_sent_total") == 1, "the mail is sent")
    message.equal("attempts", server.policy.attempts(recipient), 1)
    return "waited for, delivered"


def refused(world, server):
    """550 to the recipient"""
    replica, recipient = world.route(server, "plain", "-refused"), world.address(server, "refused-1")
    world.request(replica, recipient)
    wait_until(lambda: replica.metric("countersign_mails_failed") == 1, "the mail is given up")
    listed = world.command(replica, "mails", "list")
    if "password_reset" not in listed or "code 550" not in listed or recipient in listed:
        raise AssertionError(listed)
    server.policy.let_through.add(recipient)
    world.command(replica, "mails", "requeue", listed.split()[0])
    message.check(world.delivered(server, recipient)[0], recipient)
    return "given up, listed, requeued, delivered"


def idle(world, server):
    """two mails, between them the server's idle time-out"""
    replica = world.route(server, "plain")
    world.deliver(server, replica, world.address(server, "idle-1"))
    time.sleep(IDLE_SECONDS)
    world.deliver(server, replica, world.address(server, "idle-2"), seconds=4)
    return "both delivered"


def nothing_sent(world, server, replica, relay, recipient) -> str:
    world.request(replica, recipient)
    wait_until(lambda: replica.metric("countersign_mail_errors_total") > 0, "an attempt fails")
    wait_until(lambda: replica.metric("countersign_mails_waiting") == 1, "the mail waits")
    message.equal("given up", replica.metric("countersign_mails_failed"), 0)
    for word in (b"MAIL", b"AUTH", b"cso_", recipient.encode()):
        if word in bytes(relay.sent).upper() or word in relay.sent:
            raise AssertionError(f"{word!r} was sent")
    return "nothing sent, the mail waits"


def starttls_missing(world, server):
    """STARTTLS is not offered"""
    relay = Relay(server.plain)
    replica = world.route(server, "starttls", "-missing", port=relay.port)
    return nothing_sent(world, server, replica, relay, world.address(server, "missing-1"))


@needs_tls
def stranger(world, server):
    """certificate of another authority"""
    relay = Relay(server.starttls)
    replica = world.route(server, "starttls", "-stranger", port=relay.port, ca=authority.STRANGER)
    return nothing_sent(world, server, replica, relay, world.address(server, "stranger-1"))


@needs_tls
def misnamed(world, server):
    """certificate of another name"""
    relay = Relay(server.implicit)
    replica = world.route(server, "implicit", "-misnamed", port=relay.port, host="127.0.0.1")
    return nothing_sent(world, server, replica, relay, world.address(server, "misnamed-1"))


@needs_tls
def wrong_password(world, server):
    """AUTH with a wrong password"""
    replica, recipient = world.route(server, "starttls", "-password", password="wrong"), world.address(server, "password-1")
    world.request(replica, recipient)
    wait_until(lambda: replica.metric("countersign_mail_errors_total") > 0, "an attempt fails")
    wait_until(lambda: replica.metric("countersign_mails_waiting") == 1, "the mail waits")
    message.equal("given up", replica.metric("countersign_mails_failed"), 0)
    return "the mail waits"


def silent_quit(world, server):
    """no answer to QUIT"""
    if server.name != "aiosmtpd":
        return f"{NOT_TRIED}: it cannot be told to"
    replica = world.route(server, "plain", "-silent")
    world.deliver(server, replica, world.address(server, "silent-1"))
    wait_until(lambda: replica.metric("countersign_mails_sent_total") == 1, "the mail is sent", seconds=10)
    return "delivered"


CASES = [
    down, plain, starttls, implicit, token, ascii_domain, no_smtputf8, smtputf8, greylisted, stalled, late, refused, idle,
    starttls_missing, stranger, misnamed, wrong_password, silent_quit,
]
EXPECTED = {
    down: "all delivered", token: "and a second mail tells so", no_smtputf8: "given up, the next is delivered",
    greylisted: "the second is delivered", stalled: "the second attempt is delivered", late: "waited for, delivered",
    refused: "given up, listed, requeued, delivered", idle: "both delivered",
    starttls_missing: "nothing sent, the mail waits", stranger: "nothing sent, the mail waits",
    misnamed: "nothing sent, the mail waits", wrong_password: "the mail waits",
}
# What must stand in the cells of a row.
MUST = {case.__doc__: EXPECTED.get(case, "delivered") for case in CASES} | {"copies of each mail": "one"}
