"""Writes what the program is made of: an SBOM (CycloneDX 1.6) and the licence texts of all crates that it links.

    sbom.py TARGET FOLDER

TARGET is a triple such as x86_64-unknown-linux-gnu. FOLDER gets sbom.cdx.json and licences/. The same Cargo.lock gives
the same files. Crates that only build scripts and tests use are left out.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def metadata(target: str) -> dict:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def linked(graph: dict) -> list[dict]:
    """The packages that the program links, itself first, the rest by name."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    packages = {package["id"]: package for package in graph["packages"]}
    root = next(id for id, package in packages.items() if package["name"] == "countersign")
    found, waiting = set(), [root]
    while waiting:
        if (current := waiting.pop()) in found:
            continue
        found.add(current)
        for dependency in nodes[current]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    others = sorted(found - {root}, key=lambda id: (packages[id]["name"], packages[id]["version"]))
    return [packages[root]] + [packages[id] for id in others]


def checksums() -> dict:
    """SHA-256 of each crate, from Cargo.lock."""
    entries = re.findall(
        r'name = "(.+)"\nversion = "(.+)"\nsource = ".*"\nchecksum = "([0-9a-f]{64})"', Path("Cargo.lock").read_text()
    )
    return {(name, version): checksum for name, version, checksum in entries}


def component(package: dict, hashes: dict) -> dict:
    name, version = package["name"], package["version"]
    made = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if checksum := hashes.get((name, version)):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licence := package["license"]:
        # Cargo once allowed a slash for OR.
        made["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", licence)}]
    return made


def document(packages: list[dict]) -> str:
    hashes = checksums()
    root = component(packages[0], hashes) | {"type": "application"}
    made = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [component(package, hashes) for package in packages[1:]],
    }
    return json.dumps(made, indent=1) + "\n"


def copy_licences(packages: list[dict], folder: Path) -> list[str]:
    """Copies the texts of each crate; returns the crates that ship none, whose expression is in the SBOM."""
    without = []
    for package in packages:
        source = Path(package["manifest_path"]).parent
        files = [file for file in sorted(source.iterdir()) if file.is_file() and LICENCE_FILE.match(file.name)]
        for file in files:
            copy = folder / f"{package['name']}-{package['version']}" / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        if not files:
            without.append(f"{package['name']} {package['version']}: {package['license']}")
    return without


def main():
    target, folder = sys.argv[1], Path(sys.argv[2])
    packages = linked(metadata(target))
    text = document(packages)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"the SBOM is not valid: {fault}")
    (folder / "sbom.cdx.json").write_text(text)
    without = copy_licences(packages, folder / "licences")
    (folder / "licences/NO-TEXT-SHIPPED").write_text("\n".join(without) + "\n")
    print(f"{len(packages)} packages, {len(without)} of them ship no licence text")


if __name__ == "__main__":
    main()
