# shellcheck shell=bash
# To be sourced. Installs packages where that is possible.

# Is this a machine on which packages may be installed: Debian or a relative of it, as root?
can_apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

# apt_turn COMMAND...: of two commands at once, one waits for the other.
apt_turn() {
  flock /tmp/countersign-packages.lock "$@"
}

# apt_install PACKAGE...: quiet unless it fails.
apt_install() {
  echo "Installing $* ..." >&2
  local log
  log=$(mktemp)
  if ! {
    apt_turn apt-get update && DEBIAN_FRONTEND=noninteractive apt_turn apt-get install -y --no-install-recommends "$@"
  } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# once FOLDER FILE COMMAND...: runs COMMAND, which fills FOLDER as FILE says, unless a run with the
# same FILE has succeeded before.
once() {
  local folder=$1 file=$2
  shift 2
  if ! cmp -s "$file" "$folder/.done"; then
    mkdir -p "$(dirname "$folder")"
    # Of two scripts at once, one waits for the other.
    (
      flock 9
      if ! cmp -s "$file" "$folder/.done"; then
        rm -rf "$folder"
        mkdir -p "$folder"
        "$@" 9>&-
        cp "$file" "$folder/.done"
      fi
    ) 9>"$folder.lock"
  fi
}

has_python() { python3 -c 'import ensurepip, venv' 2>/dev/null; }
