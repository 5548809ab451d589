"""Lets a real Prometheus scrape a running server, and checks that the dashboard and the alerts find what they name.

    scrape.py BINARY PROMETHEUS

The server speaks TLS and gets some calls. Then the target must be up without an error, every rule must be healthy,
every metric that an alert names must exist, and every query of the dashboard must return something.
"""

import re
import sys
import tempfile
import threading
from pathlib import Path

import grpc

from certificates import make_certificates
from prometheus import Prometheus, dashboard_queries, wait_for
from service import Replica, outcome
from trusted_issuers import make_trusted_issuers

METRIC = re.compile(r"\b((?:countersign|grpc_server)_[a-z_]+)\b")


def traffic(replica: Replica, folder: Path, ended: threading.Event):
    credentials = grpc.ssl_channel_credentials(*(
        (folder / "tls" / name).read_bytes() for name in ("bundle.crt", "client.key", "client.crt")
    ))
    client = replica.client(credentials)
    client.register("ada@example.org")
    while not ended.is_set():
        tokens = client.login("ada@example.org")
        for _ in range(20):
            client.validate(tokens.access_token)
        outcome(client.login, "ada@example.org", "not the password of anybody")
        client.logout(tokens.refresh_token)
        ended.wait(0.2)


def check(prometheus: Prometheus) -> int:
    def target():
        active = prometheus.get("targets")["activeTargets"]
        return active and active[0]["health"] == "up" and active
    active = wait_for("the target is up", target)
    assert not active[0]["lastError"], active[0]

    queries = dashboard_queries()
    for title, expression, _ in queries:
        wait_for(f"panel {title}: {expression}", lambda: prometheus.get("query", query=expression)["result"])

    names = set(prometheus.get("label/__name__/values"))
    alerts = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    for rule in alerts:
        missing = set(METRIC.findall(rule["query"])) - names
        assert not missing, f"{rule['name']} names metrics that do not exist: {missing}"
    wait_for("every rule is healthy", lambda: all(
        rule["health"] == "ok" for group in prometheus.get("rules")["groups"] for rule in group["rules"]
    ))
    firing = [alert for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"]
    assert not firing, firing
    print(f"Prometheus: target up, {len(queries)} queries of the dashboard answered, {len(alerts)} alerts healthy and quiet")
    return 0


def main():
    binary, program = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_certificates(folder / "tls")
        issuers = make_trusted_issuers(folder / "issuers")
        tls = {f"COUNTERSIGN_TLS_{name}_FILE": str(folder / "tls" / file) for name, file in
               [("CERT", "tls.crt"), ("KEY", "tls.key"), ("CLIENT_CA", "bundle.crt")]}
        replica = Replica(str(Path(binary).resolve()), folder, "replica", COUNTERSIGN_TLS="on",
                          COUNTERSIGN_TRUSTED_ISSUERS_FILE=str(issuers),
                          COUNTERSIGN_DATABASE_URL=f"sqlite://{folder}/countersign.db", **tls).start()
        prometheus = Prometheus(program, folder, [replica.http_address], folder / "tls/bundle.crt")
        ended = threading.Event()
        caller = threading.Thread(target=traffic, args=(replica, folder, ended))
        caller.start()
        try:
            check(prometheus)
        finally:
            ended.set()
            caller.join()
            prometheus.stop()
            replica.stop()


if __name__ == "__main__":
    main()
