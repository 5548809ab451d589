#!/usr/bin/env bash
# lettre 0.11.23 (crates.io): an SMTP reply that is only a code counts as an error, even when it accepts the message.
#
# RFC 5321 (4.2) makes the text of a reply optional, and the space before it is part of the text: a server should not send bare codes,
# but any text, "including no text at all", MUST be acceptable to a client. lettre wants the space. When the bare code answers the
# message itself, the server has taken the mail and lettre reports a malformed response without a status, so a program that
# tries again sends the mail twice. smtplib of Python and aiosmtplib 5.1.3 (PyPI) take the code.
#
# Output seen:
#   answer '250 '  lettre      sent                           accepted 1
#   answer '250 '  smtplib     sent                           accepted 1
#   answer '250 '  aiosmtplib  sent                           accepted 1
#   answer '250'   lettre      response error, status None    accepted 1
#   answer '250'   smtplib     sent                           accepted 1
#   answer '250'   aiosmtplib  sent                           accepted 1
. "$(dirname "$0")/lib.sh"
python_packages aiosmtplib==5.1.3
rust_package <<'EOF'
lettre = { version = "=0.11.23", default-features = false, features = ["builder", "smtp-transport"] }
EOF
cat > src/main.rs <<'EOF'
use lettre::{Message, SmtpTransport, Transport};

fn main() {
    let port = std::env::args().nth(1).unwrap().parse().unwrap();
    let message = Message::builder()
        .from("alice@example.org".parse().unwrap())
        .to("bob@example.org".parse().unwrap())
        .body("Hello\r\n".to_owned())
        .unwrap();
    match SmtpTransport::builder_dangerous("127.0.0.1").port(port).build().send(&message) {
        Ok(_) => println!("sent"),
        Err(error) if error.is_response() => println!("response error, status {:?}", error.status()),
        Err(error) => println!("{error}"),
    }
}
EOF
cat > probe.py <<'EOF'
import asyncio
import smtplib
import socket
import subprocess
import threading

import aiosmtplib

SENDER, RECIPIENT, MAIL = "alice@example.org", "bob@example.org", "From: alice@example.org\r\n\r\nHello\r\n"
accepted = 0


def serve(listener, answer):
    """An SMTP server for one connection. `answer` is its reply to the message."""
    global accepted
    connection = listener.accept()[0]
    with connection, connection.makefile("rwb", buffering=0) as stream:
        stream.write(b"220 mail.example.org ready\r\n")
        while line := stream.readline():
            if line.upper() == b"DATA\r\n":
                stream.write(b"354 go on\r\n")
                while stream.readline() != b".\r\n":
                    pass
                accepted += 1
                stream.write(answer + b"\r\n")
            else:
                stream.write(b"221 bye\r\n" if line.upper() == b"QUIT\r\n" else b"250 mail.example.org\r\n")


def by_lettre(port):
    return subprocess.run(["target/debug/probe", str(port)], stdout=subprocess.PIPE, text=True).stdout.strip()


def by_smtplib(port):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail(SENDER, RECIPIENT, MAIL)
    return "sent"


def by_aiosmtplib(port):
    asyncio.run(aiosmtplib.send(MAIL, sender=SENDER, recipients=[RECIPIENT], hostname="127.0.0.1", port=port, timeout=20))
    return "sent"


for answer in b"250 ", b"250":
    for client in by_lettre, by_smtplib, by_aiosmtplib:
        accepted = 0
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
            seen = client(listener.getsockname()[1])
        quoted = f"'{answer.decode()}'"
        print(f"answer {quoted:6}  {client.__name__[3:]:10}  {seen:29}  accepted {accepted}")
EOF
cargo build --quiet
venv/bin/python probe.py | tee seen
[ "$(grep -c "^answer '250 '  [a-z]*  *sent  *accepted 1$" seen)" = 3 ]
grep -q "^answer '250'  *lettre  *response error, status None  *accepted 1$" seen
[ "$(grep -c "^answer '250'  *[a-z]*smtplib  *sent  *accepted 1$" seen)" = 2 ]
