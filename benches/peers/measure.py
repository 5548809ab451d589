"""Logins per second of Countersign, better-auth and fastapi-users, in alternating rounds. See README.md."""

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from clients import Clients, Sample
from programs import HERE, Paths, Program, Server, busy_seconds

CORES = len(os.sched_getaffinity(0))
PROGRAMS = [
    Program("Countersign", "countersign", 1),
    Program("better-auth", "better-auth", CORES),
    Program("fastapi-users", "fastapi-users", CORES),
]
# Other ways to set the peers up, to see whether the usual one treats them badly.
VARIANTS = [
    Program("better-auth, 1 process", "better-auth", 1),
    Program(
        "better-auth, 1 hashing thread each", "better-auth", CORES, {"UV_THREADPOOL_SIZE": "1"}
    ),
]
PYTHON_PACKAGES = ["fastapi-users", "pwdlib", "argon2-cffi-bindings", "sqlalchemy", "uvicorn"]
NODE_PACKAGES = ["better-auth", "@node-rs/argon2"]


def main() -> None:
    options = parse()
    paths = Paths(options.countersign.resolve(), options.node, options.better_auth.resolve())
    programs = PROGRAMS + (VARIANTS if options.variants else [])
    # The `finally` of everything below is reached also when this is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        clients = Clients(
            options.clients, options.in_flight, options.users, str(options.proto.resolve())
        )
        stack.callback(clients.close)
        servers = []
        for number, program in enumerate(programs):
            say(f"starting {program.name}, registering {options.users} users")
            server = Server(program, paths, folder / str(number))
            stack.callback(server.stop)
            servers.append(server)
            # One at a time: better-auth answers 422 when two of its workers register at the same moment on SQLite.
            clients.one_by_one("register", server.target)
            server.check_hashes(options.users)
        rounds, disturbed = [], []
        while len(rounds) < options.rounds:
            wait_for_calm(options.calm, options.patience)
            # Another one begins each time.
            shift = len(rounds) % len(servers)
            turns = {}
            for server in servers[shift:] + servers[:shift]:
                try:
                    turns[server.program.name] = turn(clients, server, options.seconds)
                except RuntimeError:
                    say(server.log())
                    raise
                say(f"round {len(rounds) + 1} {server.program.name}: {turns[server.program.name]}")
            # Decided by what other processes did, never by what was measured.
            if max(figures["other_cores"] for figures in turns.values()) > options.calm:
                say("other processes took part of the cores: the whole round is measured again")
                disturbed.append(turns)
            else:
                rounds.append(turns)
    report = {
        "versions": versions(paths),
        "cores": CORES,
        "options": {
            name: getattr(options, name)
            for name in ("rounds", "seconds", "in_flight", "users", "clients", "calm")
        },
        "rounds": rounds,
        "disturbed": disturbed,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(rounds, [program.name for program in programs]))
    print(f"\nRounds measured again because other processes disturbed them: {len(disturbed)}")
    print("\n" + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))


def wait_for_calm(most: float, patience: float) -> None:
    """Waits until all processes of the machine together have used little for some seconds."""
    end = time.monotonic() + patience
    while True:
        before = busy_seconds()[0]
        time.sleep(3)
        if (busy_seconds()[0] - before) / 3 <= most:
            return
        if time.monotonic() > end:
            sys.exit("the machine did not become calm")


def turn(clients: Clients, server: Server, seconds: float) -> dict[str, float]:
    """One program's part of a round."""
    clients.one_by_one("connect", server.target)
    machine, stolen = busy_seconds()
    cpu = server.cpu_seconds()
    begin = time.monotonic()
    total = Sample()
    for sample in clients.together("drive", server.target, seconds):
        total.add(sample)
    took = total.ended - begin
    used = {pid: now - cpu.get(pid, 0) for pid, now in server.cpu_seconds().items()}
    machine_now, stolen_now = busy_seconds()
    clients.together("disconnect", server.target)
    logins = len(total.latencies)
    server_cpu = sum(used.values())
    quantiles = statistics.quantiles(total.latencies, n=100)
    figures = {
        "logins_per_second": logins / took,
        "server_cpu_ms_per_login": server_cpu * 1000 / logins,
        "p50_ms": quantiles[49] * 1000,
        "p99_ms": quantiles[98] * 1000,
        "client_cpu_ms_per_login": total.cpu * 1000 / logins,
        "server_cores": server_cpu / took,
        "client_cores": total.cpu / took,
        "other_cores": (machine_now - machine - server_cpu - total.cpu) / took,
        "stolen_cores": (stolen_now - stolen) / took,
    }
    return {name: round(figure, 3) for name, figure in figures.items()}


def table(rounds: list[dict], names: list[str]) -> str:
    """Medians over the rounds; the ratio is the median of the rounds' ratios."""
    lines = [
        "| program | logins/s | least to most | Countersign is | server CPU, ms a login | p50, ms | p99, ms "
        "| client CPU, ms a login | clients, cores | others, cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        of = {
            figure: [turns[name][figure] for turns in rounds] for figure in rounds[0][name]
        }
        rates = of["logins_per_second"]
        ours = [turns[names[0]]["logins_per_second"] for turns in rounds]
        ratios = [our / rate for our, rate in zip(ours, rates, strict=True)]
        ratio = "" if name == names[0] else f"{statistics.median(ratios):.2f} times as fast"
        middle = {figure: statistics.median(values) for figure, values in of.items()}
        lines.append(
            f"| {name} | {middle['logins_per_second']:.1f} | {min(rates):.1f} to {max(rates):.1f} "
            f"| {ratio} | {middle['server_cpu_ms_per_login']:.1f} | {middle['p50_ms']:.0f} "
            f"| {middle['p99_ms']:.0f} | {middle['client_cpu_ms_per_login']:.2f} "
            f"| {middle['client_cores']:.2f} | {middle['other_cores']:.2f} |"
        )
    return "\n".join(lines)


def versions(paths: Paths) -> dict[str, str]:
    def output(*command) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    found = {"Countersign": output(paths.countersign, "--version").replace("\n", ", ")}
    found["Node.js"] = output(paths.node, "--version")
    for name in NODE_PACKAGES:
        manifest = paths.better_auth / "node_modules" / name / "package.json"
        found[name] = json.loads(manifest.read_text())["version"]
    found["Python"] = platform.python_version()
    found |= {name: importlib.metadata.version(name) for name in PYTHON_PACKAGES}
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--countersign", type=Path, required=True, help="the release binary")
    parser.add_argument("--node", type=Path, required=True, help="the Node.js program")
    parser.add_argument("--better-auth", type=Path, default=HERE / "better-auth", help="its folder")
    parser.add_argument("--proto", type=Path, default=HERE.parent.parent / "proto")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    parser.add_argument(
        "--calm", type=float, default=0.15, help="cores that other processes may use in a round"
    )
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for calm")
    parser.add_argument("--variants", action="store_true", help="also other set-ups of the peers")
    parser.add_argument("--out", type=Path, help="every round's figures, as JSON")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
