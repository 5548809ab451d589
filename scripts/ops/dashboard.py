"""Writes the Grafana dashboard: deploy/grafana/countersign.json.

    dashboard.py [--check]

The panels stand here, in a form that people can read; `--check` tells whether the committed file is the one they make.
"""

import json
import sys
from pathlib import Path

FILE = Path("deploy/grafana/countersign.json")
JOB = 'job="$job"'
RATE = "[$__rate_interval]"


def calls(selector: str) -> str:
    return f"sum(rate(grpc_server_handled_total{{{JOB}, {selector}}}{RATE}))"


def quantile(share: float) -> str:
    buckets = f"sum by (le, grpc_method) (rate(grpc_server_handling_seconds_bucket{{{JOB}}}{RATE}))"
    return f"histogram_quantile({share}, {buckets})"


def own(name: str, aggregate: str = "") -> str:
    text = f"{name}{{{JOB}}}"
    return f"{aggregate}({text})" if aggregate else text


def rate(name: str, by: str = "") -> str:
    return f"sum{by}(rate({name}{{{JOB}}}{RATE}))"


def wait(name: str, share: float) -> str:
    return f"histogram_quantile({share}, {rate(f'{name}_seconds_bucket', ' by (le) ')})"


# (row title, [(panel title, unit, [(expression, legend)])])
ROWS = [
    ("What callers get", [
        ("Tokens validated", "reqps", [(calls('grpc_method="ValidateToken"'), "calls")]),
        ("Logins by outcome", "reqps", [
            (f'sum by (grpc_code) (rate(grpc_server_handled_total{{{JOB}, grpc_method="Login"}}{RATE})) > 0', "{{grpc_code}}"),
        ]),
        ("Calls by status", "reqps", [
            (f"sum by (grpc_code) (rate(grpc_server_handled_total{{{JOB}}}{RATE})) > 0", "{{grpc_code}}"),
        ]),
        ("Latency, 99th percentile", "s", [(f"{quantile(0.99)} > 0", "{{grpc_method}}")]),
        ("Latency, median", "s", [(f"{quantile(0.5)} > 0", "{{grpc_method}}")]),
        ("Calls in flight", "short", [(f"sum by (instance) (grpc_server_in_flight{{{JOB}}})", "{{instance}}")]),
        ("Calls refused by a limit", "reqps", [(rate("countersign_calls_refused_total", " by (reason) "), "{{reason}}")]),
        ("Tokens validated that were not remembered", "reqps", [(rate("countersign_token_cache_misses_total"), "misses")]),
    ]),
    ("Password hashing", [
        ("Hashes", "ops", [
            (f"sum(rate(countersign_hashing_finished_total{{{JOB}}}{RATE}))", "done"),
            (f"sum(rate(countersign_hashing_refused_total{{{JOB}}}{RATE}))", "refused"),
        ]),
        ("Queue", "short", [
            (own("countersign_hashing_waiting", "sum"), "waiting"),
            (own("countersign_hashing_running", "sum"), "running"),
            (own("countersign_hashing_at_once", "sum"), "allowed at once"),
        ]),
        ("One hash takes a worker", "s", [(own("countersign_hashing_average_seconds"), "{{instance}}")]),
        ("Wait for a worker", "s", [
            (wait("countersign_hashing_wait", 0.99), "99th percentile"),
            (wait("countersign_hashing_wait", 0.5), "median"),
        ]),
    ]),
    ("Database", [
        ("Available", "short", [(own("countersign_database_available"), "{{instance}}")]),
        ("Connections", "short", [
            (own("countersign_database_connections", "sum"), "open"),
            (own("countersign_database_connections_max", "sum"), "allowed"),
        ]),
        ("Operations that wait for a connection", "short", [(own("countersign_database_waiting"), "{{instance}}")]),
        ("Wait for a connection", "s", [
            (wait("countersign_database_wait", 0.99), "99th percentile"),
            (wait("countersign_database_wait", 0.5), "median"),
        ]),
    ]),
    ("Mails", [
        # All replicas see the same outbox.
        ("Outbox", "short", [
            (own("countersign_mails_waiting", "max"), "waiting"),
            (own("countersign_mails_failed", "max"), "given up"),
        ]),
        ("Attempts", "ops", [
            (rate("countersign_mails_sent_total"), "sent"),
            (rate("countersign_mail_errors_total"), "failed"),
        ]),
    ]),
    ("Revocations, keys, certificates, assertions", [
        ("Age of the knowledge of revocations", "s", [(own("countersign_revocation_staleness_seconds"), "{{instance}}")]),
        ("Revocations in memory", "short", [(own("countersign_live_revocations"), "{{instance}}")]),
        ("Age of the signing key", "s", [(own("countersign_signing_key_age_seconds", "max"), "age")]),
        ("Certificates expire in", "s", [
            (f'{own("countersign_tls_certificate_not_after", "min")} - time()', "server"),
            (f'{own("countersign_tls_client_ca_not_after", "min")} - time()', "authority of clients"),
        ]),
        ("TLS handshakes refused", "ops", [
            (f"sum by (reason) (rate(countersign_tls_handshakes_refused_total{{{JOB}}}{RATE}))", "{{reason}}"),
        ]),
        ("Assertions of services refused", "ops", [
            (f"sum by (cause) (rate(countersign_assertions_refused_total{{{JOB}}}{RATE}))", "{{cause}}"),
        ]),
        ("Log lines dropped", "ops", [(f"sum(rate(countersign_log_lines_dropped_total{{{JOB}}}{RATE}))", "lines")]),
    ]),
]
COLUMNS, WIDTH, HEIGHT = 3, 8, 7


def panel(number: int, title: str, unit: str, queries: list, x: int, y: int) -> dict:
    source = {"type": "prometheus", "uid": "$datasource"}
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(65 + index), "datasource": source, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(queries)
        ],
    }


def panels() -> list[dict]:
    made, y = [], 0
    for title, row in ROWS:
        made.append({"id": len(made) + 1, "type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for index, (name, unit, queries) in enumerate(row):
            x = index % COLUMNS * WIDTH
            made.append(panel(len(made) + 1, name, unit, queries, x, y + index // COLUMNS * HEIGHT))
        y += -(-len(row) // COLUMNS) * HEIGHT
    return made


def variable(name: str, label: str, **rest) -> dict:
    return {"name": name, "label": label, "hide": 0, **rest}


def dashboard() -> dict:
    return {
        "uid": "countersign",
        "title": "Countersign",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            variable("datasource", "Prometheus", type="datasource", query="prometheus"),
            variable("job", "Job", type="textbox", query="countersign", current={"text": "countersign", "value": "countersign"}),
        ]},
        "panels": panels(),
    }


def main():
    text = json.dumps(dashboard(), indent=2) + "\n"
    if sys.argv[1:] != ["--check"]:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"{FILE} is not what scripts/ops/dashboard.py makes: run it")


if __name__ == "__main__":
    main()
