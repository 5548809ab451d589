"""Lets a real Prometheus scrape a running server, and checks that the dashboard and the alerts find what they name.

    scrape.py BINARY PROMETHEUS

The server speaks TLS and gets some calls. Then the target must be up without an error, every rule must be healthy,
every metric that an alert names must exist, and every query of the dashboard must return something.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import grpc
import yaml

from certificates import make_certificates
from service import Replica, outcome

PATIENCE_SECONDS = 60
METRIC = re.compile(r"\b((?:countersign|grpc_server)_[a-z_]+)\b")
ALERTS = Path("deploy/prometheus/alerts.yaml").resolve()
DASHBOARD = Path("deploy/grafana/countersign.json")


class Prometheus:
    def __init__(self, program: str, folder: Path, target: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        scrape = {
            "job_name": "countersign",
            "scrape_interval": "1s",
            "scheme": "https",
            "tls_config": {"ca_file": str(folder / "tls/bundle.crt")},
            "static_configs": [{"targets": [target]}],
        }
        config = {"global": {"evaluation_interval": "1s"}, "rule_files": [str(ALERTS)], "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        self.process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.address}"],
            stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )

    def get(self, path: str, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def wait_for(what: str, condition):
    """The first true result of `condition`."""
    deadline, last = time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except OSError as error:
            last = error
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS} s ({last})")


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


def dashboard_queries() -> list[tuple[str, str]]:
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", "countersign").replace("$__rate_interval", "10s")
            found.append((panel["title"], expression))
    return found


def check(prometheus: Prometheus) -> int:
    def target():
        active = prometheus.get("targets")["activeTargets"]
        return active and active[0]["health"] == "up" and active
    active = wait_for("the target is up", target)
    assert not active[0]["lastError"], active[0]

    queries = dashboard_queries()
    for title, expression in queries:
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
        tls = {f"COUNTERSIGN_TLS_{name}_FILE": str(folder / "tls" / file) for name, file in
               [("CERT", "tls.crt"), ("KEY", "tls.key"), ("CLIENT_CA", "bundle.crt")]}
        replica = Replica(str(Path(binary).resolve()), folder, "replica", COUNTERSIGN_TLS="on",
                          COUNTERSIGN_DATABASE_URL=f"sqlite://{folder}/countersign.db", **tls).start()
        prometheus = Prometheus(program, folder, replica.http_address)
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
