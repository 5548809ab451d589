"""Runs a Prometheus of a script's own, which scrapes running replicas and evaluates the alerts."""

import json
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

PATIENCE_SECONDS = 60
ALERTS = Path("deploy/prometheus/alerts.yaml").resolve()
DASHBOARD = Path("deploy/grafana/countersign.json")


class Prometheus:
    def __init__(self, program: str, folder: Path, targets: list[str], authority: Path | None = None):
        """With `authority`, the targets speak TLS."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        scrape = {"job_name": "countersign", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}
        if authority:
            scrape |= {"scheme": "https", "tls_config": {"ca_file": str(authority)}}
        config = {"global": {"evaluation_interval": "1s"}, "rule_files": [str(ALERTS)], "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.address}"],
            stdout=(folder / "prometheus.log").open("w"), stderr=subprocess.STDOUT,
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


def dashboard_queries() -> list[tuple[str, str, str]]:
    """Title of the panel, expression, legend of every query, with the variables filled in."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", "countersign").replace("$__rate_interval", "10s")
            found.append((panel["title"], expression, target["legendFormat"]))
    return found
