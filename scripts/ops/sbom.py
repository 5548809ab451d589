"""Cuts the SBOM of cargo-cyclonedx to what the program is made of, checks it, and collects the licence texts.

    sbom.py TARGET SBOM FOLDER

TARGET is a triple such as x86_64-unknown-linux-gnu. FOLDER gets sbom.cdx.json (CycloneDX 1.5) and licences/. The same Cargo.lock
gives the same files. cargo-cyclonedx asks `cargo metadata`, where the features that tests ask for count as well; `cargo tree`
knows those of the program alone.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft7Validator

LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments, "--locked"], check=True, capture_output=True, text=True).stdout


def linked(target: str) -> set[tuple]:
    """Name and version of the crates of the program, without those of build scripts and tests."""
    lines = cargo("tree", "--package", "countersign", "--target", target, "--edges", "normal", "--prefix", "none",
                  "--no-dedupe", "--format", "{p}").splitlines()
    return {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, filter(None, lines))}


def crate(component: dict) -> tuple:
    return component["name"], component["version"]


def cut(sbom: dict, crates: set[tuple]):
    root = sbom["metadata"]["component"]
    if missing := crates - {crate(component) for component in [root, *sbom["components"]]}:
        sys.exit(f"the SBOM lacks {missing}")
    sbom["components"] = [component for component in sbom["components"] if crate(component) in crates]
    known = {component["bom-ref"] for component in [root, *sbom["components"]]}
    sbom["dependencies"] = [
        {key: [ref for ref in value if ref in known] if key == "dependsOn" else value for key, value in dependency.items()}
        for dependency in sbom["dependencies"] if dependency["ref"] in known
    ]


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
    target, sbom, folder = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    crates = linked(target)
    cut(sbom, crates)
    text = json.dumps(sbom, indent=1) + "\n"
    # Checking IRI references takes half a minute here; the addresses of crates are informative.
    Draft7Validator.FORMAT_CHECKER.checkers.pop("iri-reference", None)
    if fault := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        sys.exit(f"the SBOM is not valid: {str(fault).splitlines()[0]}")
    (folder / "sbom.cdx.json").write_text(text)
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target))
    packages = [package for package in metadata["packages"] if crate(package) in crates]
    without = copy_licences(sorted(packages, key=crate), folder / "licences")
    (folder / "licences/NO-TEXT-SHIPPED").write_text("\n".join(without) + "\n")
    print(f"{len(packages)} packages, {len(without)} of them ship no licence text")


if __name__ == "__main__":
    main()
