"""Runs replicas of the service for the scripts beside this file: start, stop, freeze, kill, and what a client calls.

Needs the stubs of proto/ on the path; scripts/lib/ops.sh makes them.
"""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc

from countersign.auth.v1 import account_service_pb2 as account_pb
from countersign.auth.v1 import account_service_pb2_grpc as account_grpc
from countersign.auth.v1 import auth_service_pb2 as pb
from countersign.auth.v1 import auth_service_pb2_grpc as auth_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

PASSWORD = "a mill that weaves algebra"
MASTER_KEYS = "v1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SECONDS_TO_START = 60


class Replica:
    """One server process on free ports of the loopback interface."""

    def __init__(self, binary: str, folder: Path, name: str, **variables: str):
        self.binary, self.name, self.folder = binary, name, folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("COUNTERSIGN_")}
        self.env = inherited | {
            "COUNTERSIGN_PROFILE": "test",
            "COUNTERSIGN_GRPC_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_HTTP_ADDR": "127.0.0.1:0",
            "COUNTERSIGN_MASTER_KEYS": MASTER_KEYS,
            "COUNTERSIGN_LOG_FORMAT": "json",
            "COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND": "0",
        } | variables
        self.log = folder / f"{name}.log"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [self.binary], env=self.env, cwd=self.folder, stdout=subprocess.PIPE, stderr=self.log.open("a"), text=True
        )
        line = self.process.stdout.readline()
        told = re.search(r" grpc=(\S+) http=(\S+) ", line)
        if not told:
            self.process.wait(SECONDS_TO_START)
            sys.exit(f"{self.name} did not start: {line}{self.log.read_text()[-2000:]}")
        self.grpc_address, self.http_address = told[1], told[2]
        return self

    def client(self, credentials=None) -> "Client":
        return Client(self.grpc_address, credentials)

    def signal(self, number: int):
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ends it as Kubernetes does, and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def http(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def metric(self, name: str) -> float:
        """The sum over the labels of one metric."""
        lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)", self.http("/metrics")[1], re.MULTILINE)
        return sum(float(value) for value in lines)

    def resident_mebibytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Client:
    """The calls that the scripts make, each with a deadline; a failure is told by its reason."""

    def __init__(self, address: str, credentials=None, seconds: float = 8):
        # No shared connections between clients, and no waiting for a backoff after a break.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        if credentials:
            self.channel = grpc.secure_channel(address, credentials, options)
        else:
            self.channel = grpc.insecure_channel(address, options)
        self.auth = auth_grpc.AuthServiceStub(self.channel)
        self.account = account_grpc.AccountServiceStub(self.channel)
        self.seconds = seconds

    def register(self, email: str):
        self.auth.Register(pb.RegisterRequest(email=email, password=PASSWORD), timeout=self.seconds)

    def login(self, email: str, password: str = PASSWORD):
        return self.auth.Login(pb.LoginRequest(email=email, password=password), timeout=self.seconds).tokens

    def refresh(self, refresh_token: str):
        return self.auth.Refresh(pb.RefreshRequest(refresh_token=refresh_token), timeout=self.seconds).tokens

    def validate(self, access_token: str, cursor: str = ""):
        request = pb.ValidateTokenRequest(access_token=access_token, at_least_cursor=cursor)
        return self.auth.ValidateToken(request, timeout=self.seconds)

    def logout(self, refresh_token: str) -> str:
        return self.auth.Logout(pb.LogoutRequest(refresh_token=refresh_token), timeout=self.seconds).revocation_cursor

    def sessions(self, access_token: str):
        metadata = [("authorization", f"Bearer {access_token}")]
        request = account_pb.ListSessionsRequest()
        return self.account.ListSessions(request, timeout=self.seconds, metadata=metadata).sessions


def reason_of(error: grpc.RpcError) -> str:
    """The reason of a failed call, or the name of its code where the server sent none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return error.code().name


def outcome(call, *arguments) -> str:
    """OK, or the reason of the failure, or its gRPC code when there is none."""
    try:
        call(*arguments)
    except grpc.RpcError as error:
        return reason_of(error)
    return "OK"
