"""What promtool does not notice: an alert without tests, a test of no alert, a runbook line that is missing.

    alerts.py

promtool reports success for a test of an alert that does not exist, as long as nothing is expected of it.
"""

import re
import sys
from pathlib import Path

import yaml

FOLDER = Path("deploy/prometheus")
MOST_ALERTS = 10


def read(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def main():
    rules = [rule for group in read("alerts.yaml")["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in rules}
    fires, quiet, faults = set(), set(), []
    tests = read("alerts_test.yaml")
    for test in tests["tests"]:
        for check in test["alert_rule_test"]:
            name = check["alertname"]
            (fires if check.get("exp_alerts") else quiet).add(name)
            if name not in alerts:
                faults.append(f"{name}: tested, and no such alert exists")
    for name, rule in alerts.items():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        if anchor not in anchors(Path(page)):
            faults.append(f"{name}: {page} has no heading for #{anchor}")
        if rule["labels"]["severity"] not in ("page", "ticket"):
            faults.append(f"{name}: its severity is neither page nor ticket")
    faults += [f"{name}: no test in which it fires" for name in alerts.keys() - fires]
    faults += [f"{name}: no test in which it is quiet" for name in alerts.keys() - quiet]
    if tests["rule_files"] != ["alerts.yaml"]:
        faults.append("alerts_test.yaml tests another file than alerts.yaml")
    if len(alerts) > MOST_ALERTS:
        faults.append(f"{len(alerts)} alerts: more than {MOST_ALERTS} are read by nobody")
    print("\n".join(sorted(faults)) or f"{len(alerts)} alerts have a firing test, a quiet test and a runbook line")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
