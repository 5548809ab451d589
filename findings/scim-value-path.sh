#!/usr/bin/env bash
# scim2-parse-filter 0.2.10 (npm): `emails[type eq "work" and value …]` also finds users who meet the two conditions with two addresses.
#
# The square brackets of a SCIM filter tie conditions to one value: RFC 7644 (3.4.2.2, table 5) wants the expressions in them "applied to
# the same value of a parent attribute". The function `filter` of this package tests each condition on all addresses of the user, as if it
# were `emails.type eq … and emails.value …`. scimmy 1.3.5 and scim-query-filter-parser 2.0.4 (npm) keep to one value. `not` in the
# brackets comes out as "no address is", where the RFC asks for an address that is not.
#
# Output seen, for alice with alice@example.org (work) and alice@example.com (home), and bob with bob@example.com (work):
#   emails[type eq "work" and value ew "@example.com"]  scim2-parse-filter        alice, bob
#   emails[type eq "work" and value ew "@example.com"]  scimmy                    bob
#   emails[type eq "work" and value ew "@example.com"]  scim-query-filter-parser  bob
#   emails[not (type eq "work")]                        scim2-parse-filter        nobody
#   emails[not (type eq "work")]                        scimmy                    alice
. "$(dirname "$0")/lib.sh"
node_packages scim2-parse-filter@0.2.10 scimmy@1.3.5 scim-query-filter-parser@2.0.4
cat > probe.mjs <<'EOF'
import { compileFilter } from "scim-query-filter-parser";
import scim2 from "scim2-parse-filter";
import SCIMMY from "scimmy";

const users = [
  { userName: "alice", emails: [{ type: "work", value: "alice@example.org" }, { type: "home", value: "alice@example.com" }] },
  { userName: "bob", emails: [{ type: "work", value: "bob@example.com" }] },
];
const readers = {
  "scim2-parse-filter": (filter) => users.filter(scim2.filter(scim2.parse(filter))),
  scimmy: (filter) => new SCIMMY.Types.Filter(filter).match(users),
  "scim-query-filter-parser": (filter) => users.filter(compileFilter(filter)),
};
function print(filter, ...names) {
  for (const name of names) {
    const found = readers[name](filter).map(({ userName }) => userName);
    console.log(`${filter.padEnd(52)}${name.padEnd(26)}${found.join(", ") || "nobody"}`);
  }
}
print('emails[type eq "work" and value ew "@example.com"]', "scim2-parse-filter", "scimmy", "scim-query-filter-parser");
// scim-query-filter-parser knows no `not`.
print('emails[not (type eq "work")]', "scim2-parse-filter", "scimmy");
EOF
node probe.mjs | tee seen
grep -q '^emails\[type .*scim2-parse-filter  *alice, bob$' seen
[ "$(grep -c '^emails\[type .*\(scimmy\|scim-query-filter-parser\)  *bob$' seen)" = 2 ]
grep -q '^emails\[not .*scim2-parse-filter  *nobody$' seen
grep -q '^emails\[not .*scimmy  *alice$' seen
