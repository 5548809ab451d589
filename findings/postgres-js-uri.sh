#!/usr/bin/env bash
# postgres 3.4.9 (npm, Postgres.js): four valid connection URIs lead to another host or database than with libpq.
#
# The PostgreSQL manual (libpq, "Connection URIs") puts an IPv6 address into brackets, allows percent-encoding in every part, a socket
# directory included, and lets parameters behind the question mark give the host and the port. Postgres.js cuts the host at the first colon
# of the address, decodes user and password only, and takes such parameters for settings of the session: without a host before the question
# mark it goes to localhost. psycopg 3.3.9 (PyPI, with libpq) and pg-connection-string 2.14.1 (npm, of pg) read all four alike.
#
# Output seen, as user@host port database, with PGUSER=alice:
#   postgresql://alice@[2001:db8::1]:5433/app                    libpq     alice@2001:db8::1 5433 app
#   postgresql://alice@[2001:db8::1]:5433/app                    pg        alice@2001:db8::1 5433 app
#   postgresql://alice@[2001:db8::1]:5433/app                    postgres  alice@[2001 NaN app
#   postgresql://alice@db.example.org/app%20data                 libpq     alice@db.example.org 5432 app data
#   postgresql://alice@db.example.org/app%20data                 pg        alice@db.example.org 5432 app data
#   postgresql://alice@db.example.org/app%20data                 postgres  alice@db.example.org 5432 app%20data
#   postgresql://alice@%2Frun%2Fpostgresql/app                   libpq     alice@/run/postgresql 5432 app
#   postgresql://alice@%2Frun%2Fpostgresql/app                   pg        alice@/run/postgresql 5432 app
#   postgresql://alice@%2Frun%2Fpostgresql/app                   postgres  alice@%2Frun%2Fpostgresql 5432 app
#   postgresql:///app?host=db.example.org&port=5433              libpq     alice@db.example.org 5433 app
#   postgresql:///app?host=db.example.org&port=5433              pg        alice@db.example.org 5433 app
#   postgresql:///app?host=db.example.org&port=5433              postgres  alice@localhost 5432 app
. "$(dirname "$0")/lib.sh"
python_packages 'psycopg[binary]==3.3.9'
node_packages postgres@3.4.9 pg-connection-string@2.14.1
cat > uris <<'EOF'
postgresql://alice@[2001:db8::1]:5433/app
postgresql://alice@db.example.org/app%20data
postgresql://alice@%2Frun%2Fpostgresql/app
postgresql:///app?host=db.example.org&port=5433
EOF
cat > probe.py <<'EOF'
import sys

from psycopg.conninfo import conninfo_to_dict

uri = sys.argv[1]
read = conninfo_to_dict(uri)
print(f"{uri:60} libpq     {read.get('user', 'alice')}@{read['host']} {read.get('port', 5432)} {read['dbname']}")
EOF
cat > probe.mjs <<'EOF'
import { parse } from "pg-connection-string";
import postgres from "postgres";

const uri = process.argv[2];
for (const [name, { user, host, port, database }] of [["pg", parse(uri)], ["postgres", postgres(uri).options]]) {
  // What a URI leaves out, pg adds later.
  console.log(`${uri.padEnd(60)} ${name.padEnd(9)} ${user || "alice"}@${host} ${port === "" ? 5432 : port} ${database}`);
}
EOF
while read -r uri; do
  venv/bin/python probe.py "$uri"
  PGUSER=alice node probe.mjs "$uri"
done < uris | tee seen
[ "$(sed 's/ \(libpq\|pg\)  */ /' seen | grep -v ' postgres  ' | uniq -c | grep -c '^ *2 ')" = 4 ]
grep -qF ' postgres  alice@[2001 NaN app' seen
grep -qF ' postgres  alice@db.example.org 5432 app%20data' seen
grep -qF ' postgres  alice@%2Frun%2Fpostgresql 5432 app' seen
grep -qF ' postgres  alice@localhost 5432 app' seen
