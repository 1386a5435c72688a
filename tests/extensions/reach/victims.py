"""What tests kill while a command uses a route: dbctl, its ssh, the container of the server, and the relay in the container."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

from dbctl import url as urls
from tests import servers
from tests.crash import forge
from tests.crash.forge import KillTimer, wait_for_result
from tests.crash.test_backup_server import wait_for_descendants
from tests.extensions.reach.processes import find_ssh, wait_until, wait_until_empty
from tests.reach.containers import Container
from tests.services import larder_app

#: Count the sessions of others in a server that only dbctl and the test use.
SESSIONS = {
    "postgresql": "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()",
    "mysql": "select count(*) from information_schema.processlist where id <> connection_id() and command <> 'Daemon'",
}
#: The programs of a relay in a container, whose server runs without them.
RELAYS = {"bash", "cat", "nc", "sh", "socat"}
#: Errors after which a change may have been made.
IN_DOUBT = {"commit-in-doubt", "migration-in-doubt"}


class Dbctl:
    """dbctl itself, whose route ends behind SSH."""

    def __init__(self, pantry, runtime: Path, environment: Mapping[str, str]) -> None:
        self.pantry, self._runtime, self._environment = pantry, runtime, environment

    def start(self, *words: str) -> forge.Job:
        variables = {"TMPDIR": str(self.pantry.folder), "XDG_RUNTIME_DIR": str(self._runtime)}
        return forge.start(
            self.pantry.folder, *words, "-o", "json", environment=variables | self._environment
        )

    def run_to_end(self, *words: str) -> None:
        status, result = wait_for_result(self.start(*words))
        assert status == 0, result

    def run_killed(self, timer: KillTimer, *words: str) -> tuple[int, object]:
        """Start a command, kill the victim at a random moment, wait until nothing remains, and return the result of the command."""
        job = self.start(*words)
        self.strike(timer, job)
        status, result = wait_for_result(job)
        self.wait_for_end()
        wait_until_empty(self._runtime)
        wait_until(lambda: not find_ssh(self._runtime))
        # A killed dbctl leaves the secrets of a client program to the next one.
        assert status == -signal.SIGKILL or not list(self.pantry.folder.glob("dbctl-secret-*"))
        return status, result

    def strike(self, timer: KillTimer, job: forge.Job) -> None:
        timer.send_signal(job)

    def wait_for_end(self) -> None:
        """Wait until no process and no session of the command remains, and the server is running."""
        wait_for_descendants(self.pantry)


class Ssh(Dbctl):
    """Every ssh of the route."""

    def strike(self, timer: KillTimer, job: forge.Job) -> None:
        timer.send_signal(job, 0)
        for process in find_ssh(self._runtime):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class Served(Dbctl):
    """The container at the end of the route, which is started again."""

    def __init__(self, pantry, runtime: Path, environment: Mapping[str, str], container: Container) -> None:
        super().__init__(pantry, runtime, environment)
        self._container = container

    def strike(self, timer: KillTimer, job: forge.Job) -> None:
        timer.send_signal(job, 0)
        self._container.kill()

    def wait_for_end(self) -> None:
        if not self._container.inspect()["State"]["Running"]:
            self._container.start()
            self.pantry.own = locate(self._container)
        wait_for_processes(self.pantry.folder)
        wait_until(self._has_no_session)
        wait_until(lambda: not find_relays(self._container))

    def _has_no_session(self) -> bool:
        # PostgreSQL as process 1 recovers after a program in its container was killed.
        with suppress(psycopg.OperationalError):
            return bool(self.pantry.rows(SESSIONS[self.pantry.engine]) == [(0,)])
        return False


class Relay(Served):
    """The programs in the container that relay connections."""

    def strike(self, timer: KillTimer, job: forge.Job) -> None:
        timer.send_signal(job, 0)
        while processes := find_relays(self._container):  # again: a relay may just have started others
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def find_relays(container: Container) -> list[int]:
    """Return the processes of this machine that relay connections in a container."""
    namespace = Path(f"/proc/{container.inspect()['State']['Pid']}/ns/pid").readlink()
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = (process / "comm").read_text().strip()
            # MariaDB as process 1 does not wait for killed orphans.
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            if name in RELAYS and Path(process / "ns/pid").readlink() == namespace:
                processes.append(int(process.name))
    return processes


def wait_for_processes(folder: Path) -> None:
    """Wait until no process has a folder in its command or its environment."""

    def is_used() -> bool:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                texts = ((process / name).read_bytes() for name in ("cmdline", "environ"))
                if process.name != str(os.getpid()) and any(bytes(folder) in text for text in texts):
                    return True
        return False

    wait_until(lambda: not is_used())


def locate(container: Container) -> urls.Url:
    """Return the address of the server in a container on a bridge, as an administrator of it."""
    variables = container.variables
    if "MARIADB_USER" in variables:
        user, password, name = "root", variables["MARIADB_ROOT_PASSWORD"], variables["MARIADB_DATABASE"]
        return urls.parse_url(f"mysql://{user}:{password}@{container.address}:3306/{name}?ssl-mode=disabled")
    user, password, name = (variables[f"POSTGRES_{key}"] for key in ("USER", "PASSWORD", "DB"))
    return urls.parse_url(f"postgresql://{user}:{quote(password, safe='')}@{container.address}:5432/{name}")


def open_container_pantry(container: Container, folder: Path):
    """Create Larder in the database of a container."""
    folder.mkdir()
    url = locate(container)
    if url.engine == "mysql":
        with servers.mysql_connection(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"alter database `{url.path}` character set utf8mb4")
            larder_app.fill_mysql(cursor)
            connection.commit()
        return larder_app.MySQLPantry(folder, url)
    with closing(servers.connection(url)) as connection:
        larder_app.fill_postgresql(connection)
    return larder_app.ServedPantry(folder, url)


def configure(pantry, via: str, *, host: str = "") -> None:
    """Let an app use a route, and migrations of a folder; ``host`` replaces that of the server."""
    file = pantry.folder / "dbctl.toml"
    profile = larder_app.PROFILE.read_text()
    (pantry.folder / "larder.toml").write_text(f"{profile}\n[databases.pantry.migrations]\n")
    text = file.read_text().replace("[apps.larder]\n", f'[apps.larder]\nvia = "{via}"\n')
    text = text.replace(str(larder_app.PROFILE), "larder.toml")
    assert via in text
    if host:
        text = text.replace(f"@{pantry.own.host}:", f"@{host}:")
    file.write_text(f'{text}[apps.larder.migrations]\npantry = "migrations"\n')
    (pantry.folder / "migrations").mkdir()
