"""A PostgreSQL server of a script's own: roles as docs/postgresql.md has them, and the ways to break it."""

import os
import signal
import subprocess
from pathlib import Path

ROLES = """
CREATE ROLE countersign_owner LOGIN PASSWORD 'owner';
CREATE ROLE countersign LOGIN PASSWORD 'service';
CREATE DATABASE countersign OWNER countersign_owner ENCODING 'UTF8' TEMPLATE template0;
"""
PRIVILEGES = """
REVOKE ALL ON DATABASE countersign FROM PUBLIC;
GRANT CONNECT ON DATABASE countersign TO countersign;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO countersign_owner;
GRANT USAGE ON SCHEMA public TO countersign;
ALTER DEFAULT PRIVILEGES FOR ROLE countersign_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO countersign;
"""
MIGRATED = "REVOKE INSERT, UPDATE, DELETE ON __diesel_schema_migrations FROM countersign;"


class Postgres:
    def __init__(self, programs: str, folder: str, url: str):
        self.programs, self.data = Path(programs), Path(folder) / "data"
        self.admin_url = url
        self.address = url.split("@")[1].split("/")[0]
        self.stopped = []

    def url(self, role: str = "countersign", password: str = "service") -> str:
        return f"postgres://{role}:{password}@{self.address}/countersign"

    def sql(self, text: str, database: str = "countersign") -> str:
        url = self.admin_url.rsplit("/", 1)[0] + "/" + database
        command = [self.programs / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", url]
        return subprocess.run(command, input=text, text=True, check=True, capture_output=True, timeout=30).stdout

    def prepare(self, binary: str):
        """Roles, privileges and tables, by the steps of docs/postgresql.md."""
        self.sql(ROLES, "postgres")
        self.sql(PRIVILEGES)
        owner = {"COUNTERSIGN_DATABASE_URL": self.url("countersign_owner", "owner")}
        subprocess.run([binary, "migrate"], env=owner, cwd=self.data.parent, check=True, stdout=subprocess.DEVNULL)
        self.sql(MIGRATED)

    def hold(self, statement: str) -> subprocess.Popen:
        """A transaction that stays open until it is killed."""
        url = self.admin_url.rsplit("/", 1)[0] + "/countersign"
        command = [self.programs / "psql", "-qAtX", url]
        session = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        session.stdin.write(f"BEGIN; {statement};\n")
        session.stdin.flush()
        return session

    def control(self, *arguments: str):
        command = [str(self.programs / "pg_ctl"), "-w", "-s", "-D", str(self.data), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        with open(os.devnull, "w") as nothing:
            subprocess.run(command, cwd="/", check=True, timeout=60, stdout=nothing, stderr=nothing)

    def processes(self) -> list[int]:
        """The server's process and those that it started."""
        parent = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        found = [parent]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == parent:
                    found.append(int(stat.parent.name))
            except OSError:
                pass  # It has just ended.
        return found

    def freeze(self):
        self.stopped = self.processes()
        for process in self.stopped:
            os.kill(process, signal.SIGSTOP)

    def thaw(self):
        for process in self.stopped:
            try:
                os.kill(process, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self.stopped = []
