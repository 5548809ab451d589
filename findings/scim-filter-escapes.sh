#!/usr/bin/env bash
# scim2-parse-filter 0.2.10, scimmy 1.3.5 (npm) and scim2-filter-parser 0.7.0 (PyPI) do not decode the JSON strings in filters.
#
# Values in a SCIM filter are JSON (RFC 7644, 3.4.2.2: "rules from JSON"), so a client writes the account EXAMPLE\alice of a Windows domain
# as "EXAMPLE\\alice", and may write é as \u00e9. These three compare what stands between the quotes. A client that looks for the account
# before it creates it finds nobody. What finds the account is a filter that is no JSON (last line), which services that decode do not
# accept. scim-query-filter-parser 2.0.4 (npm) decodes.
#
# Output seen, for a user and a database column with the value EXAMPLE\alice:
#   scim-query-filter-parser  userName eq "EXAMPLE\\alice"                found
#   scim2-parse-filter        userName eq "EXAMPLE\\alice"                not found
#   scimmy                    userName eq "EXAMPLE\\alice"                not found
#   scim-query-filter-parser  displayName eq "Ren\u00e9e"                 found
#   scim2-parse-filter        displayName eq "Ren\u00e9e"                 not found
#   scimmy                    displayName eq "Ren\u00e9e"                 not found
#   scim2-filter-parser       userName eq "EXAMPLE\\alice"                not found
#   scim2-filter-parser       userName eq "EXAMPLE\alice"                 found
. "$(dirname "$0")/lib.sh"
python_packages scim2-filter-parser==0.7.0
node_packages scim2-parse-filter@0.2.10 scimmy@1.3.5 scim-query-filter-parser@2.0.4
cat > probe.mjs <<'EOF'
import { compileFilter } from "scim-query-filter-parser";
import scim2 from "scim2-parse-filter";
import SCIMMY from "scimmy";

const user = { userName: "EXAMPLE\\alice", displayName: "Renée" };
const readers = {
  "scim-query-filter-parser": (filter) => compileFilter(filter)(user),
  "scim2-parse-filter": (filter) => scim2.filter(scim2.parse(filter))(user),
  scimmy: (filter) => new SCIMMY.Types.Filter(filter).match([user]).length > 0,
};
for (const filter of [`userName eq ${JSON.stringify(user.userName)}`, 'displayName eq "Ren\\u00e9e"']) {
  for (const [name, found] of Object.entries(readers)) {
    console.log(`${name.padEnd(26)}${filter.padEnd(44)}${found(filter) ? "found" : "not found"}`);
  }
}
EOF
cat > probe.py <<'EOF'
import json
import sqlite3

from scim2_filter_parser.queries import SQLQuery

database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE users (username)")
database.execute("INSERT INTO users VALUES (?)", ["EXAMPLE\\alice"])
for value in json.dumps("EXAMPLE\\alice"), '"EXAMPLE\\alice"':
    filter = f"userName eq {value}"
    query = SQLQuery(filter, "users", {("userName", None, None): "users.username"}, [])
    found = database.execute(query.sql.replace("%s", "?"), list(query.params_dict.values())).fetchall()
    print(f"{'scim2-filter-parser':26}{filter:44}{'found' if found else 'not found'}")
EOF
{ node probe.mjs; venv/bin/python probe.py; } | tee seen
[ "$(grep -c '^scim-query-filter-parser .*  found$' seen)" = 2 ]
[ "$(grep -c '^scim.* not found$' seen)" = 5 ]
grep -qF 'EXAMPLE\alice"                 found' seen
