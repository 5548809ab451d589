"""What ext_authz adds to a request that passes Envoy: by Countersign, and by a server that allows everything.

    python measure.py COUNTERSIGN ENVOY ALLOW_ALL [ROUNDS]

Envoy answers by itself, on one port without the filter and on two with it; h2load asks each in turn. Prints the medians over all
rounds of the mean time of a request, and of what each filter adds to it.
"""

import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests" / "interop"))

import grpc
from programs import PASSWORD, Countersign

REQUESTS, CLIENTS, STREAMS = 20_000, 4, 4
V3 = "type.googleapis.com/envoy.extensions"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def listener(name: str, port: int, cluster: str | None) -> dict:
    router = {"name": "router", "typed_config": {"@type": f"{V3}.filters.http.router.v3.Router"}}
    ext_authz = {
        "name": "ext_authz",
        "typed_config": {
            "@type": f"{V3}.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}, "timeout": "5s"},
        },
    }
    manager = {
        "@type": f"{V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP2",
        "http_filters": ([ext_authz] if cluster else []) + [router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}],
                }
            ]
        },
    }
    filters = [{"name": "http", "typed_config": manager}]
    return {"name": name, "address": address(port), "filter_chains": [{"filters": filters}]}


def address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name: str, port: int) -> dict:
    options = {"@type": f"{V3}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def access_token(port: int) -> str:
    from countersign.auth.v1 import auth_service_pb2 as pb
    from countersign.auth.v1.auth_service_pb2_grpc import AuthServiceStub

    auth = AuthServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    auth.Register(pb.RegisterRequest(email="ada@example.org", password=PASSWORD))
    return auth.Login(pb.LoginRequest(email="ada@example.org", password=PASSWORD)).tokens.access_token


def mean_micros(port: int, token: str) -> float:
    command = ["h2load", f"-n{REQUESTS}", f"-c{CLIENTS}", f"-m{STREAMS}", "-H", f"authorization: Bearer {token}", f"http://127.0.0.1:{port}/"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    if f" {REQUESTS} 2xx" not in told:
        raise SystemExit(f"requests failed: {told}")
    # min, max, mean
    value, unit = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)\s", told).groups()
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def main() -> int:
    countersign_binary, envoy_binary, allow_all_binary = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 9
    with tempfile.TemporaryDirectory() as folder:
        countersign = Countersign(countersign_binary, Path(folder))
        allow_all = subprocess.Popen([allow_all_binary], stdout=subprocess.PIPE, text=True)
        ports = {name: free_port() for name in ("without", "allow_all", "countersign")}
        config = {
            "static_resources": {
                "listeners": [listener(name, port, None if name == "without" else name) for name, port in ports.items()],
                "clusters": [cluster("allow_all", int(allow_all.stdout.readline())), cluster("countersign", countersign.grpc_port)],
            }
        }
        file = Path(folder) / "envoy.json"
        file.write_text(json.dumps(config))
        envoy = subprocess.Popen([envoy_binary, "-c", str(file), "--concurrency", "1", "-l", "error", "--disable-hot-restart"])
        try:
            token = access_token(countersign.grpc_port)
            time.sleep(3)
            measured = {name: [] for name in ports}
            for number in range(rounds + 1):
                order = list(ports.items())
                for name, port in order if number % 2 else reversed(order):
                    measured[name].append(mean_micros(port, token))
            # What the first calls pay for is no part of any figure.
            measured = {name: values[1:] for name, values in measured.items()}
        finally:
            for process in (envoy, allow_all):
                process.terminate()
                process.wait()
            countersign.stop()
    added = {name: [a - b for a, b in zip(measured[name], measured["without"])] for name in ("allow_all", "countersign")}
    for name, values in measured.items():
        print(f"{name}: {statistics.median(values):.0f} us a request, {CLIENTS * STREAMS} at once")
    for name, values in added.items():
        print(f"{name} adds {statistics.median(values):.0f} us")
    ratios = [ours / other for ours, other in zip(added["countersign"], added["allow_all"])]
    print(f"ratio {statistics.median(ratios):.2f} (median of {rounds} rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
