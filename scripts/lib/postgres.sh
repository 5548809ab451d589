# shellcheck shell=bash
# To be sourced. Gives the caller a PostgreSQL server for as long as it runs:
#
#   postgres_start   sets and exports TEST_DATABASE_URL, and POSTGRES_BIN (the folder of initdb,
#                    pg_ctl and postgres) for tests that run a cluster of their own
#   postgres_stop    stops it and removes every trace; runs by itself when the caller exits
#
# A TEST_DATABASE_URL that is already set is used as it is, and nothing is started.

# shellcheck source-path=SCRIPTDIR source=packages.sh
. "${BASH_SOURCE[0]%/*}/packages.sh"

postgres_dir=

# Prints the newest folder that holds a whole server; Debian keeps it off PATH.
postgres_find() {
  local bin
  for bin in "${POSTGRES_BIN:-/none}" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) \
    "$(dirname "$(command -v initdb || echo /none/initdb)")" \
    "$(pg_config --bindir 2>/dev/null || echo /none)"; do
    if [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ] && [ -x "$bin/postgres" ]; then
      echo "$bin"
      return 0
    fi
  done
  return 1
}

postgres_install() {
  # Debian's package starts a server of its own unless its common part is told not to first.
  apt_install postgresql-common || return 1
  sed -i -E 's/^#? *create_main_cluster *=.*/create_main_cluster = false/' \
    /etc/postgresql-common/createcluster.conf
  apt_install postgresql
}

# Runs a PostgreSQL program, which refuses to run as root, as another user when root calls it; in a
# folder which that user may enter.
postgres_run() (
  cd /
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
  else
    "$@"
  fi
)

# Prints the folder for the server's own. Each test creates a database and drops it, some 300 files: in memory, if there is
# room for it, that takes a quarter of the time. Not under TMPDIR: the path of a socket may have no more than about 100 bytes.
postgres_parent() {
  local free
  free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || free=0
  if [ -w /dev/shm ] && [ "$free" -ge $((4 * 1024 * 1024)) ] 2>/dev/null; then
    echo /dev/shm
  else
    echo /tmp
  fi
}

postgres_start() {
  if POSTGRES_BIN=$(postgres_find); then
    export POSTGRES_BIN
  fi
  if [ -n "${TEST_DATABASE_URL:-}" ]; then
    export TEST_DATABASE_URL
    return 0
  fi
  if [ -z "$POSTGRES_BIN" ]; then
    if ! can_apt_install || ! postgres_install || ! POSTGRES_BIN=$(postgres_find); then
      echo "PostgreSQL was not found: install its server package, or set TEST_DATABASE_URL to a server on which databases may be created." >&2
      exit 1
    fi
    export POSTGRES_BIN
  fi

  trap postgres_stop EXIT
  postgres_dir=$(mktemp -d "$(postgres_parent)/countersign-postgres.XXXXXX")
  if [ "$(id -u)" = 0 ]; then
    chown postgres:postgres "$postgres_dir"
  fi
  # Nothing here has to survive a crash, so nothing is forced to disk.
  postgres_run "$POSTGRES_BIN/initdb" --no-sync -A trust -U postgres -E UTF8 --locale=C \
    -D "$postgres_dir/data" >"$postgres_dir/initdb.log" 2>&1 </dev/null || {
    cat "$postgres_dir/initdb.log" >&2
    exit 1
  }

  # A port below the range that the system hands out; taken by someone else: try another.
  local port
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    port=$((20000 + RANDOM % 12000))
    if postgres_run "$POSTGRES_BIN/pg_ctl" start -w -s -D "$postgres_dir/data" \
      -l "$postgres_dir/server.log" -o "-c listen_addresses=127.0.0.1 -c port=$port \
        -c unix_socket_directories=$postgres_dir -c max_connections=500 \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off" \
      >/dev/null 2>&1 </dev/null; then
      export TEST_DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres"
      return 0
    fi
  done
  cat "$postgres_dir/server.log" >&2
  exit 1
}

postgres_stop() {
  if [ -n "$postgres_dir" ]; then
    postgres_run "$POSTGRES_BIN/pg_ctl" stop -m immediate -s -D "$postgres_dir/data" \
      >/dev/null 2>&1 </dev/null || true
    rm -rf "$postgres_dir"
    postgres_dir=
  fi
}
