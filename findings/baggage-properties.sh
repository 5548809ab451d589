#!/usr/bin/env bash
# opentelemetry-api 1.45.2 (PyPI): a baggage entry with a property gets another value, and sends it on with the property inside.
#
# W3C Baggage lets properties follow a value after a semicolon, such as the origin of the entry. @opentelemetry/core 2.12.1 (npm) keeps
# them apart. The Python propagator takes all up to the next comma as the value and percent-encodes the semicolon when it sends the
# baggage on, so no service behind can tell value and property apart again. It also writes a space as "+", which a reader of
# the standard takes for a plus. Who puts the tenant or the subject into baggage for logs and sampling finds one tenant under several
# names, by the languages that the request has passed.
#
# Output seen, for the header `tenant=acme;source=gateway,plan=pro%20plus`:
#   Node.js reads                  tenant=acme  plan=pro plus
#   Python reads                   tenant=acme;source=gateway  plan=pro plus
#   Python sends                   tenant=acme%3Bsource%3Dgateway,plan=pro+plus
#   Node.js behind Python reads    tenant=acme;source=gateway  plan=pro+plus
. "$(dirname "$0")/lib.sh"
python_packages opentelemetry-api==1.45.2
node_packages @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
cat > forward.py <<'EOF'
import sys

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator

propagator = W3CBaggagePropagator()
context = propagator.extract({"baggage": sys.argv[1]})
sent = {}
propagator.inject(sent, context=context)
print("  ".join(f"{key}={value}" for key, value in get_all(context).items()))
print(sent["baggage"])
EOF
cat > read.mjs <<'EOF'
import { ROOT_CONTEXT, defaultTextMapGetter, propagation } from "@opentelemetry/api";
import { W3CBaggagePropagator } from "@opentelemetry/core";

const context = new W3CBaggagePropagator().extract(ROOT_CONTEXT, { baggage: process.argv[2] }, defaultTextMapGetter);
const entries = propagation.getBaggage(context).getAllEntries();
console.log(entries.map(([key, { value }]) => `${key}=${value}`).join("  "));
EOF
header='tenant=acme;source=gateway,plan=pro%20plus'
venv/bin/python forward.py "$header" > forwarded
{
  echo "Node.js reads                  $(node read.mjs "$header")"
  echo "Python reads                   $(head -n 1 forwarded)"
  echo "Python sends                   $(tail -n 1 forwarded)"
  echo "Node.js behind Python reads    $(node read.mjs "$(tail -n 1 forwarded)")"
} | tee seen
grep -q '^Node.js reads  *tenant=acme  plan=pro plus$' seen
grep -q '^Python reads  *tenant=acme;source=gateway  plan=pro plus$' seen
grep -q '^Python sends  *tenant=acme%3Bsource%3Dgateway,plan=pro+plus$' seen
grep -q '^Node.js behind Python reads  *tenant=acme;source=gateway  plan=pro+plus$' seen
