"""Checks every file of deploy/proxies with the program that will read it.

    proxies.py FOLDER NAME=PROGRAM...     NAME: envoy, nginx, haproxy, caddy

FOLDER is for copies: host names and files that are only there where the proxy runs are replaced. Without its program a
file is not checked; one of Istio is, by its keys. A file that nothing here reads is an error.
"""

import subprocess
import sys
from pathlib import Path

import yaml

FILES = Path("deploy/proxies")
# In a configuration, and what stands in its place.
PLACES = {
    "countersign-1:50051": "127.0.0.1:50051",
    "countersign-2:50051": "127.0.0.1:50052",
    "/run/nginx-countersign.pid": "{folder}/nginx.pid",
    "/etc/envoy/countersign.pb": "{folder}/countersign.pb",
}
COMMANDS = {
    "envoy": ["--mode", "validate", "--log-level", "error", "--config-path", "{file}"],
    "nginx": ["-t", "-q", "-p", "{folder}", "-e", "stderr", "-c", "{file}"],
    "haproxy": ["-c", "-f", "{file}"],
    "caddy": ["validate", "--adapter", "caddyfile", "--config", "{file}"],
}


def make_descriptors(folder: Path):
    protos = ["countersign/auth/v1/auth_service.proto", "google/rpc/error_details.proto"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", "--include_imports"]
    subprocess.run([*command, f"--descriptor_set_out={folder}/countersign.pb", *protos], check=True)


def check_with(name: str, program: str, file: Path, folder: Path) -> list[str]:
    text = file.read_text()
    for place, instead in PLACES.items():
        text = text.replace(place, instead.format(folder=folder))
    # Envoy goes by the suffix.
    copy = folder / file.name
    copy.write_text(text)
    arguments = [part.format(file=copy, folder=folder) for part in COMMANDS[name]]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    return [f"{file}:\n{done.stdout}{done.stderr}"] if done.returncode else []


def check_istio(file: Path) -> list[str]:
    """There is no schema of Istio at hand: the keys that docs/gateways.md promises."""
    documents = {document["kind"]: document for document in yaml.safe_load_all(file.read_text())}
    if sorted(documents) != ["AuthorizationPolicy", "IstioOperator"]:
        return [f"{file}: it has {sorted(documents)}"]
    [provider] = documents["IstioOperator"]["spec"]["meshConfig"]["extensionProviders"]
    service, policy = provider["envoyExtAuthzGrpc"], documents["AuthorizationPolicy"]
    kinds = {kind: document["apiVersion"] for kind, document in documents.items()}
    wanted = [
        (kinds, {"IstioOperator": "install.istio.io/v1alpha1", "AuthorizationPolicy": "security.istio.io/v1"}),
        (sorted(service), ["failOpen", "port", "service", "statusOnError", "timeout"]),
        (service["port"], 50051),
        (service["failOpen"], False),
        (service["statusOnError"], "503"),
        (policy["spec"]["action"], "CUSTOM"),
        (policy["spec"]["provider"], {"name": provider["name"]}),
        (sorted(policy["spec"]), ["action", "provider", "rules", "selector"]),
    ]
    return [f"{file}: {found!r} is not {expected!r}" for found, expected in wanted if found != expected]


def main():
    folder = Path(sys.argv[1])
    programs = dict(argument.split("=", 1) for argument in sys.argv[2:])
    make_descriptors(folder)
    wrong, checked = [], 0
    for file in sorted(path for path in FILES.rglob("*") if path.is_file()):
        name = file.parent.name
        if name == "istio":
            wrong += check_istio(file)
        elif name not in COMMANDS:
            wrong.append(f"{file}: nothing checks it")
        elif name not in programs:
            continue
        else:
            wrong += check_with(name, programs[name], file, folder)
        checked += 1
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{checked} files")


if __name__ == "__main__":
    main()
