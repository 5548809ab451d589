#!/usr/bin/env bash
# lettre 0.11.23 (crates.io): two spaces between words with umlauts vanish from the subject of a mail, and the words run together.
#
# RFC 2047 (6.2) has a reader drop the white space between two encoded words, so a writer must put spaces that count inside of one.
# lettre does so with a single space. With two or more it makes two encoded words and leaves the spaces between them: "für  Müller", as
# a template with an empty title makes it, arrives as "fürMüller". The email package of Python and mailparser 3.14.2 (npm) both
# read as the RFC says. A single space arrives, and so do spaces next to a word in ASCII.
#
# Output seen:
#   written as        Code =?utf-8?b?ZsO8ciBNw7xsbGVy?=
#   read by Python    Code für Müller
#   read by Node.js   Code für Müller
#   written as        Code =?utf-8?b?ZsO8cg==?=  =?utf-8?b?TcO8bGxlcg==?=
#   read by Python    Code fürMüller
#   read by Node.js   Code fürMüller
. "$(dirname "$0")/lib.sh"
node_packages mailparser@3.14.2
rust_package <<'EOF'
lettre = { version = "=0.11.23", default-features = false, features = ["builder"] }
EOF
cat > src/main.rs <<'EOF'
use lettre::Message;
use std::io::Write;

fn main() {
    let message = Message::builder()
        .from("alice@example.org".parse().unwrap())
        .to("bob@example.org".parse().unwrap())
        .subject(std::env::args().nth(1).unwrap())
        .body(String::new())
        .unwrap();
    std::io::stdout().write_all(&message.formatted()).unwrap();
}
EOF
cat > probe.py <<'EOF'
import email
import email.policy
import sys

with open("mail", "rb") as file:
    subject = email.message_from_binary_file(file, policy=email.policy.default)["subject"]
sys.stdout.buffer.write(f"read by Python    {subject}\n".encode())
EOF
cat > probe.mjs <<'EOF'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";

const { subject } = await simpleParser(readFileSync("mail"));
console.log(`read by Node.js   ${subject}`);
EOF
cargo build --quiet
for subject in "Code für Müller" "Code für  Müller"; do
  target/debug/probe "$subject" > mail
  sed -n 's/^Subject: \(.*\)\r$/written as        \1/p' mail
  python3 probe.py
  node probe.mjs
done | tee seen
[ "$(grep -c '^read by [PN].*  Code für Müller$' seen)" = 2 ]
[ "$(grep -c '^read by [PN].*  Code fürMüller$' seen)" = 2 ]
