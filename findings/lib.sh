# Shared by the scripts beside this file. Reading it moves to a new temporary folder, which goes at the end with the started program.
set -euo pipefail
dir=$(mktemp -d)
started=
stop() {
  [ -n "$started" ] || return 0
  kill "$started" 2>/dev/null || true
  wait "$started" 2>/dev/null || true
  started=
}
trap 'stop; rm -rf "$dir"' EXIT
cd "$dir"
export CARGO_TARGET_DIR=target

# Packages from PyPI, each as NAME==VERSION. The interpreter is then venv/bin/python.
python_packages() {
  python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check "$@"
}

# Packages from npm, each as NAME@VERSION. A program beside node_modules is an ES module when its name ends in .mjs.
node_packages() {
  npm init --yes > /dev/null
  npm install --silent --no-audit --no-fund --save-exact "$@"
}

# Dependencies of a Rust program in Cargo's notation from standard input. Its code goes to src/main.rs, its binary is target/debug/probe.
rust_package() {
  mkdir src
  { printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n'; cat; } > Cargo.toml
}

# Starts a program that prints its port as the first line, and waits for that. The port is in $port; `stop` ends the program.
start() {
  "$@" > port &
  started=$!
  until [ -s port ] || ! kill -0 "$started" 2>/dev/null; do sleep 0.1; done
  port=$(head -n 1 port)
  rm port
}
