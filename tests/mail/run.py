"""Sends mails through real SMTP servers and prints the table of docs/mail.md.

    run.py BINARY FOLDER PACKAGES SERVER... [--write]

Exits with 1 when a cell is not as `MUST` says. `--write` puts the table into docs/mail.md.
"""

import logging
import re
import signal
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

import authority
from aiosmtpd_server import Aiosmtpd
from cases import CASES, MUST, NOT_TRIED, World
from servers import Exim, OpenSmtpd, Postfix
from service import reason_of

SERVERS = {"postfix": Postfix, "exim": Exim, "opensmtpd": OpenSmtpd, "aiosmtpd": Aiosmtpd}
PAGE = Path("docs/mail.md")


def attempt(name: str, case: str, run) -> str:
    started = time.monotonic()
    try:
        cell = run()
    except grpc.RpcError as error:
        cell = f"FAILED: {reason_of(error)}"
    except (Exception, SystemExit) as error:
        lines = f"{type(error).__name__}: {error}".splitlines()
        cell = f"FAILED: {lines[0]}"
    print(f"{name}: {case}: {cell} ({time.monotonic() - started:.0f} s)", flush=True)
    return cell


def try_server(world: World, server) -> dict[str, str]:
    """The first case stops and starts the server; the others run at the same time."""
    first, *others = CASES
    cells = {first.__doc__: attempt(server.name, first.__doc__, lambda: first(world, server))}
    with ThreadPoolExecutor(len(others)) as pool:
        running = {case.__doc__: pool.submit(attempt, server.name, case.__doc__, lambda case=case: case(world, server)) for case in others}
    cells.update({case: future.result() for case, future in running.items()})
    cells["copies of each mail"] = attempt(server.name, "copies of each mail", lambda: world.copies(server))
    return cells


def table(columns: dict[str, dict[str, str]]) -> str:
    rows = list(next(iter(columns.values())))
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(cells[row] for cells in columns.values()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    binary, folder, packages = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    wanted = [argument for argument in sys.argv[4:] if not argument.startswith("--")]
    started = time.monotonic()
    # What was started is ended when a time limit ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("mail: not in time"))
    # aiosmtpd warns of what is wanted here, and logs each broken handshake.
    warnings.filterwarnings("ignore")
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    authority.make(folder / "certificates")
    world = World(binary, folder)
    servers = []
    try:
        for name in wanted:
            servers.append(SERVERS[name](folder / name, folder / "certificates", packages))
        with ThreadPoolExecutor(len(servers)) as pool:
            results = list(pool.map(lambda server: try_server(world, server), servers))
        columns = {f"{server.name} {server.version()}": cells for server, cells in zip(servers, results, strict=True)}
    finally:
        world.stop()
        for server in servers:
            server.stop()
    print("\n" + table(columns))
    if "--write" in sys.argv:
        page = re.sub(r"(<!-- table -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table(columns) + m[2], PAGE.read_text(), flags=re.S)
        PAGE.write_text(page)
    wrong = [
        f"{column}: {row}: {cell}"
        for column, cells in columns.items()
        for row, cell in cells.items()
        if not re.fullmatch(f"{MUST[row]}|{NOT_TRIED}.*", cell)
    ]
    print(f"\nmail: {len(wrong)} cells are not as they must be, after {time.monotonic() - started:.0f} s")
    for cell in wrong:
        print(f"  {cell}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
