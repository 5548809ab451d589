#!/usr/bin/env bash
# envy 0.4.2: an optional variable that is set in both cases makes the whole configuration fail.
#
# The names of environment variables are case-sensitive, and tools are often given one setting under both names (`no_proxy` and
# `NO_PROXY`), with the same value. envy writes every name in lower case before it looks for the field, so the second one is a second
# value of one field. Either alone is read; both, even when equal, are an error, which names the field and neither variable.
#
# Output seen:
#   NO_PROXY alone     Ok(Settings { no_proxy: Some("localhost") })
#   no_proxy alone     Ok(Settings { no_proxy: Some("localhost") })
#   both, same value   Err(Custom("duplicate field `no_proxy`"))
. "$(dirname "$0")/lib.sh"
rust_package <<'EOF'
envy = "=0.4.2"
serde = { version = "=1.0.229", features = ["derive"] }
EOF
cat > src/main.rs <<'EOF'
#[derive(Debug, serde::Deserialize)]
#[allow(dead_code)]
struct Settings {
    no_proxy: Option<String>,
}

fn main() {
    println!("{:?}", envy::from_env::<Settings>());
}
EOF
cargo build --quiet
run() { printf '%-18s %s\n' "$1" "$(env -u NO_PROXY -u no_proxy "${@:2}" target/debug/probe)"; }
{
  run 'NO_PROXY alone' NO_PROXY=localhost
  run 'no_proxy alone' no_proxy=localhost
  run 'both, same value' NO_PROXY=localhost no_proxy=localhost
} | tee seen
[ "$(grep -c ' Ok(Settings' seen)" = 2 ]
grep -q '^both, same value .*duplicate field `no_proxy`' seen
