#!/usr/bin/env bash
# @opentelemetry/core 2.12.1 (npm): it sends a `traceparent` with an unknown flag on with three digits of flags, which ends the trace.
#
# W3C Trace Context has one byte of flags, two hexadecimal digits, and reserves those it does not define. Of a higher version, a reader
# should take the "sampled" flag alone, and must write a header of its own version ("Versioning of traceparent") with the other flags set to
# zero ("Other Flags"). The JavaScript propagator keeps the whole byte and writes it with the prefix "0", so values from 10 up have three
# digits. The next service, in any language, finds no valid header and starts a new trace: the trace breaks behind the Node.js service, not
# in it. Release 3.1.1, which wants Node.js 22, does the same. opentelemetry-api 1.45.2 (PyPI) also keeps the byte, but writes two digits.
#
# Output seen, for traceparents that end in these flags:
#   01-…-01          Node.js sends 00-…-01  next service: same trace
#   01-…-11          Node.js sends 00-…-011 next service: new trace
#   01-…-81-more     Node.js sends 00-…-081 next service: new trace
#   01-…-11          Python  sends 00-…-11  next service: same trace
. "$(dirname "$0")/lib.sh"
python_packages opentelemetry-api==1.45.2
node_packages @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
cat > forward.py <<'EOF'
import sys

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

propagator = TraceContextTextMapPropagator()
sent = {}
propagator.inject(sent, context=propagator.extract({"traceparent": sys.argv[1]}))
print(sent.get("traceparent", "nothing"))
EOF
cat > forward.mjs <<'EOF'
import { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";

const propagator = new W3CTraceContextPropagator();
const sent = {};
const context = propagator.extract(ROOT_CONTEXT, { traceparent: process.argv[2] }, defaultTextMapGetter);
propagator.inject(context, sent, defaultTextMapSetter);
console.log(sent.traceparent ?? "nothing");
EOF
ids=4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7
by_node() { node forward.mjs "$1"; }
by_python() { venv/bin/python forward.py "$1"; }
run() {
  local sent next behind='same trace'
  sent=$("$2" "$1-$ids-$3")
  # The next service runs both libraries.
  for next in by_node by_python; do
    [ "$("$next" "$sent")" != nothing ] || behind='new trace'
  done
  printf '%-18s %-7s sends %-10s next service: %s\n' "$1-…-$3" "$4" "${sent/$ids/…}" "$behind"
}
{
  run 01 by_node 01 Node.js
  run 01 by_node 11 Node.js
  run 01 by_node 81-more Node.js
  run 01 by_python 11 Python
} | tee seen
grep -q '^01-…-01  *Node.js sends 00-…-01  *next service: same trace$' seen
grep -q '^01-…-11  *Node.js sends 00-…-011  *next service: new trace$' seen
grep -q '^01-…-81-more  *Node.js sends 00-…-081  *next service: new trace$' seen
grep -q '^01-…-11  *Python  sends 00-…-11  *next service: same trace$' seen
