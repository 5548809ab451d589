#!/usr/bin/env bash
# requests_oauth2client 1.8.0 and Authlib 1.9.10 (PyPI): they look for the metadata of an issuer with a path at a wrong address.
#
# RFC 8414 (3.1) puts "/.well-known/oauth-authorization-server" between the host and the path of the issuer, after any "/" at the end of
# the path was removed. requests_oauth2client puts the path into the middle of that suffix, and Authlib keeps the "/" at the end: a
# server with a path per tenant has nothing there. openid-client 6.9.0 (npm) does as the RFC says. Without a path all agree, so it
# shows only when the server gets tenants. Such a client needs the address of each endpoint.
#
# Output seen:
#   https://as.example.org/tenant
#     requests_oauth2client  https://as.example.org/.well-known/tenant/oauth-authorization-server
#     Authlib                https://as.example.org/.well-known/oauth-authorization-server/tenant
#     openid-client          https://as.example.org/.well-known/oauth-authorization-server/tenant
#   https://as.example.org/tenant/
#     requests_oauth2client  https://as.example.org/.well-known/tenant/oauth-authorization-server
#     Authlib                https://as.example.org/.well-known/oauth-authorization-server/tenant/
#     openid-client          https://as.example.org/.well-known/oauth-authorization-server/tenant
. "$(dirname "$0")/lib.sh"
python_packages requests_oauth2client==1.8.0 Authlib==1.9.10
node_packages openid-client@6.9.0
cat > probe.py <<'EOF'
import sys

from authlib.oauth2.rfc8414 import get_well_known_url
from requests_oauth2client import oauth2_discovery_document_url

issuer = sys.argv[1]
print("  requests_oauth2client ", oauth2_discovery_document_url(issuer))
print("  Authlib               ", get_well_known_url(issuer, external=True))
EOF
cat > probe.mjs <<'EOF'
import * as client from "openid-client";

/** A `fetch` that prints the address and finds nothing there. */
async function print(address) {
  console.log(`  openid-client          ${address}`);
  return new Response(null, { status: 404 });
}
const options = { algorithm: "oauth2", [client.customFetch]: print };
await client.discovery(new URL(process.argv[2]), "api", undefined, undefined, options).catch(() => {});
EOF
for issuer in https://as.example.org/tenant https://as.example.org/tenant/; do
  echo "$issuer"
  venv/bin/python probe.py "$issuer"
  node probe.mjs "$issuer" 2>/dev/null
done | tee seen
known=https://as.example.org/.well-known
[ "$(grep -c "^  requests_oauth2client  *$known/tenant/oauth-authorization-server$" seen)" = 2 ]
[ "$(grep -c "^  Authlib  *$known/oauth-authorization-server/tenant$" seen)" = 1 ]
[ "$(grep -c "^  Authlib  *$known/oauth-authorization-server/tenant/$" seen)" = 1 ]
[ "$(grep -c "^  openid-client  *$known/oauth-authorization-server/tenant$" seen)" = 2 ]
