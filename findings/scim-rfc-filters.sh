#!/usr/bin/env bash
# scimmy 1.3.5, scim2-parse-filter 0.2.10, scim-query-filter-parser 2.0.4 (npm): none takes all the example filters of the SCIM standard.
#
# RFC 7644 (3.4.2.2, figure 2) shows filters for users; each filter below has the form of one of these, and the user meets it. All three
# packages miss an attribute that stands behind the schema of the user. `schemas` is a list of strings, of which one must match: scimmy ends
# in a TypeError, which its resources report with status 400, and scim2-parse-filter finds nothing. The same happens for `emails`, which
# stands for `emails.value`. scim-query-filter-parser does not know `not`.
#
# Output seen (the TypeError is "Cannot read properties of undefined (reading 'toLowerCase')"):
#   filter                                                       scimmy     scim2-parse-filter  scim-query-filter-parser
#   userName sw "a"                                              found      found               found
#   urn:ietf:params:scim:schemas:core:2.0:User:userName sw "a"   not found  not found           Error: Failed to parse!
#   schemas eq "urn:ietf:params:scim:schemas:core:2.0:User"      TypeError  not found           found
#   emails.value co "example.org"                                found      found               found
#   emails co "example.org"                                      TypeError  not found           found
#   title pr and not (emails.value co "example.com")             found      found               Error: Failed to parse!
. "$(dirname "$0")/lib.sh"
node_packages scimmy@1.3.5 scim2-parse-filter@0.2.10 scim-query-filter-parser@2.0.4
cat > probe.mjs <<'EOF'
import { compileFilter } from "scim-query-filter-parser";
import scim2 from "scim2-parse-filter";
import SCIMMY from "scimmy";

const core = "urn:ietf:params:scim:schemas:core:2.0:User";
const user = {
  schemas: [core],
  userName: "alice",
  title: "Engineer",
  emails: [{ type: "work", value: "alice@example.org" }],
};
const readers = {
  scimmy: (filter) => new SCIMMY.Types.Filter(filter).match([user]).length > 0,
  "scim2-parse-filter": (filter) => scim2.filter(scim2.parse(filter))(user),
  "scim-query-filter-parser": (filter) => compileFilter(filter)(user),
};
const print = (filter, first, second, third) => console.log(filter.padEnd(61) + first.padEnd(11) + second.padEnd(20) + third);
print("filter", ...Object.keys(readers));
for (const filter of [
  'userName sw "a"',
  `${core}:userName sw "a"`,
  `schemas eq "${core}"`,
  'emails.value co "example.org"',
  'emails co "example.org"',
  'title pr and not (emails.value co "example.com")',
]) {
  const seen = Object.values(readers).map((found) => {
    try {
      return found(filter) ? "found" : "not found";
    } catch (error) {
      return error instanceof TypeError ? "TypeError" : String(error);
    }
  });
  print(filter, ...seen);
}
EOF
node probe.mjs | tee seen
grep -q '^userName .* found  *found  *found$' seen
grep -q '^urn:.* not found  *not found  *Error: Failed to parse!$' seen
grep -q '^schemas .* TypeError  *not found  *found$' seen
grep -q '^emails.value .* found  *found  *found$' seen
grep -q '^emails co .* TypeError  *not found  *found$' seen
grep -q '^title .* found  *found  *Error: Failed to parse!$' seen
