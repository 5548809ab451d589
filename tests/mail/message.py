"""What a delivered mail must look like, and the texts that make it hard: long lines, dots, and letters beyond ASCII everywhere."""

import email
import email.utils
import re
import time
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from pathlib import Path

# The sender, the name of every user, and the templates of the test.
SENDER = ("Büro für Konten, 会計", "accounts@example.org")
NAME = 'Zoë "Zett" Ångström-Großschädl, 李小龍; Ph.D. <née Müller> ' + "सुमित्रा देवी"
APP_URL = "https://app.example.org/konto"
SUBJECT = "Neues Paßwort für {{ display_name }} – 重設密碼 – setze es bald zurück, ehe der Link verfällt"
TEXT = """.Ein Punkt am Anfang.
.
..
From hier an: Grüße = {{ display_name }}   \nEine lange Zeile: {long}
{{ app_url }}/reset-password#token={{ token }}
Ende ohne Umbruch"""
HTML = """<!doctype html>
<p>.{{ display_name }}</p>
<p>{long}</p>
.
<a href="{{ app_url }}/reset-password#token={{ token }}">重設</a>
"""
LONG = "Donaudampfschifffahrtsgesellschaft" * 60
LINE_BYTES = 998
LINK = re.compile(re.escape(APP_URL) + r"/reset-password#token=(cso_[A-Za-z0-9_.-]+)")


def write_templates(folder: Path):
    folder.mkdir()
    for name, text in [("subject.txt", SUBJECT), ("txt", TEXT), ("html", HTML)]:
        (folder / f"password_reset.{name}").write_text(text.replace("{long}", LONG))


def parse(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=policy.SMTPUTF8)


def mailbox(raw: bytes, header: str) -> tuple[str, str]:
    """Name and address. The parser of Python 3.11 would leave spaces between the encoded words of a name (RFC 2047 section 6.2)."""
    headers = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode()
    value = re.search(rf"^{header}: (.*(?:\n[ \t].*)*)", headers, re.MULTILINE)[1]
    name, address = re.fullmatch(r"(?s)(?:(.*\S)\s+)?<?([^\s<>]+@[^\s<>]+)>?", value).groups()
    return str(make_header(decode_header(name or ""))), address


def recipient_of(raw: bytes) -> str:
    return mailbox(raw, "To")[1]


def token_of(message: EmailMessage) -> str:
    return LINK.search(message.get_body(("plain",)).get_content())[1]


def equal(what: str, seen, expected):
    if seen != expected:
        raise AssertionError(f"{what}: {seen!r} is not {expected!r}")


def check(raw: bytes, recipient: str) -> EmailMessage:
    """Fails on what is not as it must be."""
    message = parse(raw)
    for part in message.walk():
        equal("defects", part.defects, [])
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Auto-Submitted"):
        equal(f"number of {name}", len(message.get_all(name, [])), 1)
        # Only an address beyond ASCII may stand as it is (RFC 6532), and this parser calls that a defect.
        if recipient.isascii() or name != "To":
            equal(f"defects of {name}", message[name].defects, ())
    equal("From", mailbox(raw, "From"), SENDER)
    equal("To", mailbox(raw, "To"), (NAME, recipient))
    equal("Subject", str(message["Subject"]), SUBJECT.replace("{{ display_name }}", NAME))
    identifier = r"<[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}@example\.org>"
    if not re.fullmatch(identifier, str(message["Message-ID"])):
        raise AssertionError(f"Message-ID: {message['Message-ID']}")
    age = time.time() - email.utils.parsedate_to_datetime(str(message["Date"])).timestamp()
    if not -5 < age < 120:
        raise AssertionError(f"Date: {age:.0f} s ago")
    equal("Auto-Submitted", str(message["Auto-Submitted"]), "auto-generated")
    equal("other headers", [name for name in message if name.lower().startswith(("list-", "precedence"))], [])
    equal("type", message.get_content_type(), "multipart/alternative")
    parts = list(message.iter_parts())
    equal("parts", [part.get_content_type() for part in parts], ["text/plain", "text/html"])
    equal("character sets", [part.get_content_charset() for part in parts], ["utf-8", "utf-8"])
    longest = max(len(line) for line in raw.splitlines())
    if longest > LINE_BYTES:
        raise AssertionError(f"a line of {longest} bytes")
    token = token_of(message)
    values = {"{{ display_name }}": NAME, "{long}": LONG, "{{ app_url }}": APP_URL, "{{ token }}": token}
    text = TEXT
    for name, value in values.items():
        text = text.replace(name, value)
    # A transfer may add one line end at the end of the text.
    equal("text", parts[0].get_content().replace("\r\n", "\n").rstrip("\n"), text)
    html = parts[1].get_content().replace("\r\n", "\n").replace("&#x2f;", "/")
    for word in (LONG, f'#token={token}"', "\n.\n", "重設"):
        if word not in html:
            raise AssertionError(f"HTML: {word[:40]!r} is not in it")
    return message
