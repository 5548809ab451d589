#!/usr/bin/env bash
# parse-prometheus-text-format 1.1.1 (npm): of a histogram or summary with labels it keeps one series, without its labels, sum and count.
#
# In the Prometheus text format ("Histograms and summaries") a metric has as many histograms as it has combinations of labels beside `le`.
# This package, which "aims to be compatible with" prom2json, keeps the labels of counters and gauges. Of a histogram it keeps the buckets
# of the last series alone, of a summary the quantiles, and reports no error: who asks for the latency of one method gets that of another.
# Only without labels does a histogram come out whole. prometheus-client 0.26.0 (PyPI) reads every series.
#
# Output seen, for the calls of two methods, 2 slow ones of Login and 60 of Refresh, and for the same format without labels:
#   prometheus-client             Login    up to 1 s: 0, all: 2, sum: 5.0, count: 2
#   prometheus-client             Refresh  up to 1 s: 50, all: 60, sum: 70.0, count: 60
#   parse-prometheus-text-format  ?        up to 1 s: 50, all: 60, sum: ?, count: ?
#   parse-prometheus-text-format  ?        up to 1 s: 7, all: 8, sum: 9.0, count: 8    (without labels)
. "$(dirname "$0")/lib.sh"
python_packages prometheus-client==0.26.0
node_packages parse-prometheus-text-format@1.1.1
cat > labelled <<'EOF'
# TYPE rpc_seconds histogram
rpc_seconds_bucket{method="Login",le="1.0"} 0
rpc_seconds_bucket{method="Login",le="+Inf"} 2
rpc_seconds_sum{method="Login"} 5.0
rpc_seconds_count{method="Login"} 2
rpc_seconds_bucket{method="Refresh",le="1.0"} 50
rpc_seconds_bucket{method="Refresh",le="+Inf"} 60
rpc_seconds_sum{method="Refresh"} 70.0
rpc_seconds_count{method="Refresh"} 60
EOF
cat > plain <<'EOF'
# TYPE rpc_seconds histogram
rpc_seconds_bucket{le="1.0"} 7
rpc_seconds_bucket{le="+Inf"} 8
rpc_seconds_sum 9.0
rpc_seconds_count 8
EOF
cat > probe.py <<'EOF'
from prometheus_client.parser import text_string_to_metric_families

(family,) = text_string_to_metric_families(open("labelled").read())
for method in "Login", "Refresh":
    read = {s.labels.get("le", s.name): s.value for s in family.samples if s.labels["method"] == method}
    total, count = read["rpc_seconds_sum"], read["rpc_seconds_count"]
    print(f"prometheus-client             {method:8} up to 1 s: {read['1.0']:g}, all: {read['+Inf']:g}, sum: {total}, count: {count:g}")
EOF
cat > probe.mjs <<'EOF'
import { readFileSync } from "node:fs";
import parse from "parse-prometheus-text-format";

for (const [name, note] of [["labelled", ""], ["plain", "    (without labels)"]]) {
  const [family] = parse(readFileSync(name, "utf8"));
  for (const { labels, buckets, sum = "?", count = "?" } of family.metrics) {
    const seen = `up to 1 s: ${buckets["1.0"]}, all: ${buckets["+Inf"]}, sum: ${sum}, count: ${count}`;
    console.log(`parse-prometheus-text-format  ${(labels?.method ?? "?").padEnd(8)} ${seen}${note}`);
  }
}
EOF
{ venv/bin/python probe.py; node probe.mjs; } | tee seen
[ "$(wc -l < seen)" = 4 ]
grep -q '^prometheus-client  *Login  *up to 1 s: 0, all: 2, sum: 5.0, count: 2$' seen
grep -q '^prometheus-client  *Refresh  *up to 1 s: 50, all: 60, sum: 70.0, count: 60$' seen
grep -q '^parse-prometheus-text-format  ?  *up to 1 s: 50, all: 60, sum: ?, count: ?$' seen
grep -q '^parse-prometheus-text-format  ?  *up to 1 s: 7, all: 8, sum: 9.0, count: 8 ' seen
