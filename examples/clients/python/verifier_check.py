"""Tests verifier.py and verifier_feed.py: with the published cases, and with the feed of a running server.

    python verifier_check.py ../../../vectors/verifier
    python verifier_check.py ../../../vectors/verifier http://127.0.0.1:50051 ../../../target/debug/countersign

The program makes a service account and its key, so it must be run where the server's database is found.
"""

import json
import pathlib
import subprocess
import sys
import threading
import time
import uuid

from connect import connect
from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc as rpc
from countersign.auth.v1 import token_service_pb2 as token_pb
from countersign.auth.v1 import token_service_pb2_grpc as token_rpc
from verifier import Demand, Refused, Verifier
from verifier_feed import follow

PASSWORD = "a mill that weaves algebra"


def judge(verifier, *arguments):
    try:
        verifier.verify(*arguments)
        return "ACCEPT"
    except Refused as refusal:
        return refusal.reason


def judge_case(file, case):
    known = {**file, **case}
    verifier = Verifier(known["issuer"], known["audiences"], known["leeway_seconds"])
    verifier.is_ready, verifier.is_current = True, case.get("keys_are_current", True)
    verifier.keys_asked = time.monotonic()
    verifier.set_jwks(json.dumps(known["jwks"]))
    for one in case.get("revocations", []):
        verifier.revoke(one.get("session_id"), one.get("user_id"), one.get("not_before_time_ms", 0), one["expire_time_ms"])
    demand = dict(case.get("demand", {}))
    if "client_certificate_sha256" in demand:
        demand["client_certificate_sha256"] = bytes.fromhex(demand["client_certificate_sha256"])
    return judge(verifier, case["token"], Demand(**demand), known["time_ms"])


def check_cases(folder):
    count, wrong = 0, []
    for path in sorted(folder.glob("*.json")):
        file = json.loads(path.read_text())
        for case in file.get("cases", []):
            count += 1
            verdict = judge_case(file, case)
            if verdict != case["expect"]:
                wrong.append(f"{path.name}: {case['name']}: {verdict}, not {case['expect']}")
    if wrong or count < 200:
        sys.exit("\n".join(wrong) or "there are too few cases")
    print(f"{count} cases")


def check_feed(url, program):
    channel = connect(url)
    auth = rpc.AuthServiceStub(channel)
    ada, gateway = f"{uuid.uuid4()}@example.org", f"python-{uuid.uuid4()}"
    auth.Register(pb.RegisterRequest(email=ada, password=PASSWORD), timeout=30)
    run = lambda *arguments: subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    run("service-accounts", "create", gateway, "--role", "verifier")
    key = token_pb.IssueTokenRequest(service_key=run("service-keys", "create", gateway, "--expires-in", "1d").strip())
    issue = token_rpc.TokenServiceStub(channel).IssueToken
    verifier = Verifier("http://localhost:50051", ["countersign"])
    arguments = (verifier, channel, lambda: issue(key, timeout=5).access_token)
    threading.Thread(target=follow, args=arguments, daemon=True).start()
    tokens = auth.Login(pb.LoginRequest(email=ada, password=PASSWORD), timeout=30).tokens
    becomes(verifier, tokens.access_token, "ACCEPT")
    auth.Logout(pb.LogoutRequest(refresh_token=tokens.refresh_token), timeout=30)
    took = becomes(verifier, tokens.access_token, "TOKEN_REVOKED")
    print(f"revoked {took * 1000:.0f} ms after the logout")


def becomes(verifier, token, expected):
    began = time.monotonic()
    while judge(verifier, token) != expected:
        if time.monotonic() - began > 30:
            sys.exit(f"not in time: {expected}; {judge(verifier, token)}")
        time.sleep(0.005)
    return time.monotonic() - began


check_cases(pathlib.Path(sys.argv[1]))
if len(sys.argv) > 2:
    check_feed(*sys.argv[2:])
