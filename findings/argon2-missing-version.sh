#!/usr/bin/env bash
# argon2 0.6.0 (Rust): a stored hash without `v=` is checked with another version of Argon2 than the reference code uses.
#
# The field `v=` of an encoded hash came with version 0x13 of Argon2. Older hashes have none, so the reference decoder takes a missing
# field as version 0x10. The PHC format also lets a string leave `v=` out. The crate takes a missing field as its own default, 0x13:
# an old hash parses without an error and then no password matches it. The reference code (PyPI argon2-cffi 25.1.0) and the crate
# rust-argon2 3.0.0 accept the same string. With `v=16` written out, all three agree.
#
# Output seen, for the right password:
#   $argon2id$v=16$m=1024,t=2,p=1$…
#     reference    true
#     rust-argon2  true
#     argon2       true
#   $argon2id$m=1024,t=2,p=1$…
#     reference    true
#     rust-argon2  true
#     argon2       invalid password
. "$(dirname "$0")/lib.sh"
python_packages argon2-cffi==25.1.0 argon2-cffi-bindings==26.2.0
rust_package <<'EOF'
argon2 = "=0.6.0"
other = { package = "rust-argon2", version = "=3.0.0" }
EOF
cat > src/main.rs <<'EOF'
use argon2::{Argon2, PasswordVerifier};

fn main() {
    let hash = std::env::args().nth(1).unwrap();
    let password = b"correct horse";
    println!("  rust-argon2  {}", other::verify_encoded(&hash, password).unwrap());
    match Argon2::default().verify_password(password, hash.as_str()) {
        Ok(()) => println!("  argon2       true"),
        Err(error) => println!("  argon2       {error}"),
    }
}
EOF
cat > reference.py <<'EOF'
import sys
from argon2.low_level import Type, hash_secret, verify_secret

password = b"correct horse"
if len(sys.argv) > 1:
    print("  reference   ", str(verify_secret(sys.argv[1].encode(), password, Type.ID)).lower())
else:
    print(hash_secret(password, b"sixteen bytes ok", 2, 1024, 1, 32, Type.ID, version=0x10).decode())
EOF
cargo build --quiet
with=$(venv/bin/python reference.py)
for hash in "$with" "${with/v=16\$/}"; do
  echo "$hash"
  venv/bin/python reference.py "$hash"
  target/debug/probe "$hash"
done | tee seen
[ "$(grep -c ' true$' seen)" = 5 ]
tail -n 1 seen | grep -q '^  argon2 .*invalid'
