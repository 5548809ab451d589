#!/usr/bin/env bash
# firebase-scrypt 0.1.0 (PyPI): the right password is refused when hash and salt are spelled as Firebase's Admin SDK returns them.
#
# Firebase's API writes `passwordHash` and `salt` in the URL-safe base64 alphabet, and the Admin SDK's `listUsers` passes them on; the
# command `firebase auth:export` turns them into the ordinary alphabet (`convertToNormalBase64` in firebase-tools 15.34.2). The
# Python package compares the hash as text in the ordinary alphabet, and its base64 decoder skips `-` and `_` in the salt. It answers
# False, as for a wrong password. A hash of 64 bytes without any of the two characters is rare (one in fifteen), so nearly all
# users of such an import fail, and a short test with a lucky account passes. firebase-scrypt 2.2.0 (npm) takes both alphabets.
#
# Output seen, for one password and one hash in two spellings:
#   as auth:export writes it  npm   true
#   as listUsers returns it   npm   true
#   as auth:export writes it  PyPI  True
#   as listUsers returns it   PyPI  False
. "$(dirname "$0")/lib.sh"
python_packages firebase-scrypt==0.1.0 pycryptodome==4.4.0
node_packages firebase-scrypt@2.2.0
cat > probe.mjs <<'EOF'
import { writeFileSync } from "node:fs";
import { FirebaseScrypt } from "firebase-scrypt";

const signerKey = Buffer.from(Array.from({ length: 64 }, (_, i) => (i * 37) % 256)).toString("base64");
const project = { memCost: 14, rounds: 8, saltSeparator: "Bw==", signerKey };
const scrypt = new FirebaseScrypt(project);
const urlSafe = (text) => text.replaceAll("+", "-").replaceAll("/", "_");
const salt = Buffer.from("00010203040506070809", "hex").toString("base64");
const hash = await scrypt.hash("correct horse", salt);
const users = [
  { origin: "as auth:export writes it", salt, hash },
  { origin: "as listUsers returns it", salt: urlSafe(salt), hash: urlSafe(hash) },
];
for (const { origin, salt, hash } of users) {
  console.log(`${origin.padEnd(24)}  npm   ${await scrypt.verify("correct horse", salt, hash)}`);
}
writeFileSync("users.json", JSON.stringify({ project, users }));
EOF
cat > probe.py <<'EOF'
import json

from firebase_scrypt import verify_password

with open("users.json") as file:
    export = json.load(file)
project = export["project"]
for user in export["users"]:
    right = verify_password(
        password="correct horse",
        known_hash=user["hash"],
        salt=user["salt"],
        salt_separator=project["saltSeparator"],
        signer_key=project["signerKey"],
        rounds=project["rounds"],
        mem_cost=project["memCost"],
    )
    print(f"{user['origin']:24}  PyPI  {right}")
EOF
{ node probe.mjs; venv/bin/python probe.py; } | tee seen
grep -q '^as auth:export .* npm  *true$' seen
grep -q '^as listUsers .* npm  *true$' seen
grep -q '^as auth:export .* PyPI  *True$' seen
grep -q '^as listUsers .* PyPI  *False$' seen
