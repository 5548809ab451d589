"""Renders every overlay and the Helm chart with the same values, and compares them.

    manifests.py KUBECTL HELM FOLDER [BINARY]

FOLDER gets one YAML file for each, for further checks. With BINARY, `countersign config check` judges the variables
that each container would get, also by compose; those of a Job that migrates are judged as `migrate` does. Exits with 1
when something differs or is refused.
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
from trusted_issuers import make_trusted_issuers

# Name, overlay, components, values of the chart.
VARIANTS = [
    ("mesh", "mesh", [], "mode=mesh"),
    ("tls", "tls", [], "mode=tls"),
    ("spiffe", "spiffe", [], "mode=spiffe"),
    ("development", "development", [], "mode=development"),
    ("trusted-issuers", "mesh", ["trusted-issuers"], "mode=mesh,trustedIssuers=true"),
]
KUBERNETES = Path("deploy/kubernetes")
COMPOSE = Path("deploy/compose.yaml")
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


def compose_variables(folder: Path) -> dict:
    """The variables of the service in compose.yaml, with its defaults in place; a secret's file is elsewhere."""
    told = yaml.safe_load(COMPOSE.read_text())["services"]["countersign"]["environment"]
    filled = {name: re.sub(r"\$\{\w+(?::-(.*?)|:\?.*?)\}", lambda found: "x" if found[1] is None else found[1], str(value)) for name, value in told.items()}
    return filled | {"COUNTERSIGN_MASTER_KEYS_FILE": str(folder / "master-keys/master_keys")}


def check(binary: Path, name: str, told: dict, folder: Path) -> list[str]:
    command = [binary, "config", "check"]
    done = subprocess.run(command, env=told, cwd=folder, capture_output=True, text=True, timeout=30)
    return [f"{name}: {done.stdout}{done.stderr}"] if done.returncode else []


def check_migration(binary: Path, name: str, told: dict, folder: Path) -> list[str]:
    """`backup` demands of the variables what `migrate` does, and with PostgreSQL only names the program to use."""
    command = [binary, "backup", "copy.db"]
    done = subprocess.run(command, env=told, cwd=folder, capture_output=True, text=True, timeout=30)
    return [] if done.stdout.startswith("pg_dump ") else [f"{name}: {done.stdout}{done.stderr}"]


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
            judge = check_migration if container.get("args") == ["migrate"] else check
            refused += judge(binary, name, told, folder)
    return refused


def mounted_files(folder: Path):
    (folder / "master-keys").mkdir()
    keys = folder / "master-keys/master_keys"
    keys.write_text("v1:" + base64.b64encode(os.urandom(32)).decode())
    keys.chmod(0o600)
    make_certificates(folder / "tls", key_mode=0o600)
    make_trusted_issuers(folder / "trusted-issuers")


def overlay_text(kubectl: str, overlay: str, components: list[str], folder: Path) -> str:
    """What an operator's own overlay would make, which lies elsewhere."""
    top = os.path.relpath(KUBERNETES, folder)
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{top}/overlays/{overlay}"] + ([f"{top}/migrate"] if overlay != "development" else []),
        "components": [f"{top}/components/{component}" for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return output(kubectl, "kustomize", folder)


def secrets_are_refused(helm: str) -> list[str]:
    """A secret among the variables would end in a ConfigMap."""
    faults = []
    for name in ("COUNTERSIGN_MASTER_KEYS", "COUNTERSIGN_DATABASE_URL"):
        command = [helm, "template", "countersign", CHART, "--set", f"config.{name}=x"]
        if subprocess.run(command, capture_output=True).returncode == 0:
            faults.append(f"the chart puts {name} into a ConfigMap")
    return faults


def main():
    kubectl, helm, folder, *binary = sys.argv[1:]
    faults = secrets_are_refused(helm)
    with tempfile.TemporaryDirectory() as mounted:
        mounted_files(Path(mounted))
        if binary:
            faults += check(Path(binary[0]).resolve(), "compose", compose_variables(Path(mounted)), Path(mounted))
        for name, overlay, components, values in VARIANTS:
            with tempfile.TemporaryDirectory() as own:
                overlay = overlay_text(kubectl, overlay, components, Path(own).resolve())
            chart = output(helm, "template", "countersign", CHART, "--set", values)
            Path(folder, f"kustomize-{name}.yaml").write_text(overlay)
            Path(folder, f"helm-{name}.yaml").write_text(chart)
            faults += differences(objects(overlay), objects(chart))
            if binary:
                faults += config_check(Path(binary[0]).resolve(), objects(overlay), Path(mounted))
    print("\n".join(faults) or f"kustomize and Helm agree in {len(VARIANTS)} set-ups")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
