#!/usr/bin/env bash
# lettre 0.11.23 (crates.io): it does not see an SMTP extension that the server announces in lower or mixed case.
#
# RFC 5321 (4.1.1.1) lets a server write EHLO keywords in upper, lower or mixed case, and they "MUST always be recognized and processed
# in a case-insensitive manner". lettre compares them with capitals: here it finds no AUTH and says that no mechanism is compatible.
# SMTPUTF8 and 8BITMIME go through the same comparison. smtplib of Python and aiosmtplib 5.1.3 (PyPI) log in at the same
# server. Only the keyword is free in case: names of SASL mechanisms are capitals (RFC 4422, 3.1).
#
# Output seen:
#   250 AUTH PLAIN  lettre      logged in
#   250 AUTH PLAIN  smtplib     logged in
#   250 AUTH PLAIN  aiosmtplib  logged in
#   250 Auth PLAIN  lettre      No compatible authentication mechanism was found
#   250 Auth PLAIN  smtplib     logged in
#   250 Auth PLAIN  aiosmtplib  logged in
. "$(dirname "$0")/lib.sh"
python_packages aiosmtplib==5.1.3
rust_package <<'EOF'
lettre = { version = "=0.11.23", default-features = false, features = ["builder", "smtp-transport"] }
EOF
cat > src/main.rs <<'EOF'
use lettre::{SmtpTransport, transport::smtp::authentication::Credentials};
use std::error::Error;

fn main() {
    let port = std::env::args().nth(1).unwrap().parse().unwrap();
    let credentials = Credentials::new("alice".to_owned(), "password".to_owned());
    let transport = SmtpTransport::builder_dangerous("127.0.0.1").port(port).credentials(credentials).build();
    match transport.test_connection() {
        Ok(_) => println!("logged in"),
        Err(error) => println!("{}", error.source().map_or(error.to_string(), ToString::to_string)),
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


def serve(listener, keyword):
    """An SMTP server for one connection, which takes every password."""
    connection = listener.accept()[0]
    with connection, connection.makefile("rwb", buffering=0) as stream:
        stream.write(b"220 mail.example.org ready\r\n")
        while line := stream.readline():
            command = line[:4].upper()
            answers = {b"EHLO": b"250-mail.example.org\r\n250 %s PLAIN\r\n" % keyword, b"AUTH": b"235 welcome\r\n", b"QUIT": b"221 bye\r\n"}
            stream.write(answers.get(command, b"250 fine\r\n"))


def by_lettre(port):
    return subprocess.run(["target/debug/probe", str(port)], stdout=subprocess.PIPE, text=True).stdout.strip()


def by_smtplib(port):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.login("alice", "password")
    return "logged in"


async def login(port):
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, timeout=20, start_tls=False) as client:
        await client.login("alice", "password")


def by_aiosmtplib(port):
    asyncio.run(login(port))
    return "logged in"


for keyword in b"AUTH", b"Auth":
    for client in by_lettre, by_smtplib, by_aiosmtplib:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener, keyword), daemon=True).start()
            seen = client(listener.getsockname()[1])
        print(f"250 {keyword.decode()} PLAIN  {client.__name__[3:]:10}  {seen}")
EOF
cargo build --quiet
venv/bin/python probe.py | tee seen
[ "$(grep -c '^250 AUTH PLAIN  .* logged in$' seen)" = 3 ]
grep -q '^250 Auth PLAIN  lettre  *No compatible authentication mechanism' seen
[ "$(grep -c '^250 Auth PLAIN  [a-z]*smtplib  *logged in$' seen)" = 2 ]
