"""Renders every overlay and the Helm chart in the same mode, and compares them.

    manifests.py KUBECTL HELM FOLDER [BINARY]

FOLDER gets one YAML file for each, for further checks. With BINARY, `countersign config check` judges the variables
that each container would get. Exits with 1 when something differs or is refused.
"""

import base64
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from certificates import make_certificates

MODES = ["mesh", "tls", "spiffe", "development"]
KUBERNETES = Path("deploy/kubernetes")
CHART = Path("deploy/helm/countersign")
HELM_ONLY = re.compile(r"^(helm\.sh/|checksum/|app\.kubernetes\.io/managed-by$)")
# Kustomize puts a hash of the content after the name of a ConfigMap.
HASH = re.compile(r"^(countersign(?:-spiffe-helper)?)-[a-z0-9]{10}$")
SECRETS = {
    "countersign-database": "postgres://countersign:x@db.example.com/countersign?sslmode=verify-full",
    "countersign-migrate": "postgres://owner:x@db.example.com/countersign?sslmode=verify-full",
}


def output(*command) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def normal(value):
    """The value without what only one of the two tools writes."""
    if isinstance(value, dict):
        kept = {key: normal(item) for key, item in value.items() if not HELM_ONLY.match(str(key))}
        return {key: item for key, item in kept.items() if not (key == "annotations" and not item)}
    if isinstance(value, list):
        items = [normal(item) for item in value]
        # The order of volumes and mounts means nothing.
        by_name = all(isinstance(item, dict) and ("name" in item) for item in items)
        return sorted(items, key=lambda item: item["name"]) if by_name else items
    if isinstance(value, str) and (hashed := HASH.match(value)):
        return hashed[1]
    return value


def objects(text: str) -> dict:
    documents = [normal(document) for document in yaml.safe_load_all(text) if document]
    return {f"{document['kind']} {document['metadata']['name']}": document for document in documents}


def differences(overlay: dict, chart: dict) -> list[str]:
    found = []
    for name in sorted(overlay.keys() | chart.keys()):
        texts = [yaml.safe_dump(side.get(name), sort_keys=True).splitlines() for side in (overlay, chart)]
        found += difflib.unified_diff(*texts, f"kustomize: {name}", f"helm: {name}", lineterm="")
    return found


def variables(container: dict, rendered: dict) -> dict:
    found = {}
    for source in container.get("envFrom", []):
        found |= rendered[f"ConfigMap {source['configMapRef']['name']}"]["data"]
    for variable in container.get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name")
        found[variable["name"]] = SECRETS[secret] if secret else variable["value"]
    return found


def config_check(binary: Path, rendered: dict, folder: Path) -> list[str]:
    """What the program says about the variables of each container of ours."""
    refused = []
    for name, document in rendered.items():
        if document["kind"] not in ("Deployment", "Job"):
            continue
        for container in document["spec"]["template"]["spec"]["containers"]:
            # The mounted files, elsewhere.
            told = {
                key: value.replace("/etc/countersign", str(folder))
                for key, value in variables(container, rendered).items()
            }
            check = subprocess.run(
                [binary, "config", "check"], env=told, cwd=folder, capture_output=True, text=True, timeout=30
            )
            if check.returncode != 0:
                refused.append(f"{name}: {check.stdout}{check.stderr}")
    return refused


def mounted_files(folder: Path):
    (folder / "master-keys").mkdir()
    keys = folder / "master-keys/master_keys"
    keys.write_text("v1:" + base64.b64encode(os.urandom(32)).decode())
    keys.chmod(0o600)
    make_certificates(folder / "tls", key_mode=0o600)


def main():
    kubectl, helm, folder, *binary = sys.argv[1:]
    faults = []
    with tempfile.TemporaryDirectory() as mounted:
        mounted_files(Path(mounted))
        for mode in MODES:
            overlay = output(kubectl, "kustomize", KUBERNETES / "overlays" / mode)
            if mode != "development":
                overlay += "---\n" + output(kubectl, "kustomize", KUBERNETES / "migrate")
            chart = output(helm, "template", "countersign", CHART, "--set", f"mode={mode}")
            Path(folder, f"kustomize-{mode}.yaml").write_text(overlay)
            Path(folder, f"helm-{mode}.yaml").write_text(chart)
            faults += differences(objects(overlay), objects(chart))
            if binary:
                faults += config_check(Path(binary[0]).resolve(), objects(overlay), Path(mounted))
    print("\n".join(faults) or f"kustomize and Helm agree in {len(MODES)} modes")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
