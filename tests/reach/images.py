"""Images of containers, built from programs of this machine: no registry is asked.

They have the names, users, folders and environment variables of the official images, and only what a test needs of their content.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests import servers

#: Where the programs of this machine are.
PATH = "/usr/bin:/usr/sbin"
#: The user of the servers in the official images.
USER_ID = 999
#: Programs that every distribution has, as far as start scripts and tests need them.
UTILITIES = tuple(
    "awk cat chmod chown cp dd dirname env find grep head hostname id ls mkdir mktemp mv readlink rm sed setpriv sleep sort stat tail tar"
    " printenv test touch tr true uname wc".split()
)

#: Reads the variables of the official image. In single-user mode, a database is created without a start of the server.
START_POSTGRESQL = """#!/bin/sh
set -e
user=${POSTGRES_USER:-postgres}
as_server="setpriv --reuid=postgres --regid=postgres --clear-groups"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    printf '%s' "${POSTGRES_PASSWORD:?}" > /tmp/password
    chown postgres /tmp/password
    $as_server initdb -D "$PGDATA" -U "$user" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --no-sync
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    if [ "${POSTGRES_DB:-$user}" != postgres ]; then
        echo "create database \\"${POSTGRES_DB:-$user}\\"" | $as_server postgres --single -D "$PGDATA" -c fsync=off postgres
    fi
fi
exec $as_server "$@" -D "$PGDATA" -c "listen_addresses=*" -c fsync=off
"""

#: Reads the variables of the official image.
START_MARIADB = """#!/bin/sh
set -e
data=/var/lib/mysql
if [ ! -d "$data/mysql" ]; then
    chown mysql:mysql "$data"
    mariadb-install-db --no-defaults --user=mysql --datadir=$data --auth-root-authentication-method=normal --skip-test-db \\
        --innodb-log-file-size=8M > /dev/null
    cat > /tmp/init.sql <<SQL
create database \\`$MARIADB_DATABASE\\`;
create user '$MARIADB_USER'@'%' identified by '$MARIADB_PASSWORD';
grant all on \\`$MARIADB_DATABASE\\`.* to '$MARIADB_USER'@'%';
create user root@'%' identified by '${MARIADB_ROOT_PASSWORD:?}';
grant all on *.* to root@'%' with grant option;
alter user root@localhost identified by '$MARIADB_ROOT_PASSWORD';
SQL
    set -- "$@" --init-file=/tmp/init.sql
fi
exec "$@" --user=mysql --datadir=$data --socket=/run/mysqld/mysqld.sock --innodb-log-file-size=8M --debug-no-sync
"""

#: Runs the given command, or waits as an app waits for requests.
START_APP = """#!/bin/sh
[ $# = 0 ] || exec "$@"
trap exit TERM
sleep 1000000 &
wait
"""


@dataclass(frozen=True)
class Image:
    """What an image contains and declares."""

    name: str
    programs: Sequence[str | Path]  #: names of programs, or paths, which have the same path in the image
    user: str = "app"  #: the user with the number ``USER_ID``
    links: Sequence[str] = ()  #: names under which Busybox, which contains many programs, is also a program
    folders: Sequence[Path] = ()  #: copied to the same path
    owned: Sequence[str] = ()  #: empty folders of the user
    start: str = ""  #: the text of the start script, whose arguments are ``command``
    command: Sequence[str | Path] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[str] = ()
    run_as: str = "root"
    stop_signal: str = "SIGTERM"

    def build(self, run: Callable[..., object]) -> None:
        """Create the image with a function that runs podman."""
        with tempfile.TemporaryDirectory(prefix="dbctl-image-", dir=servers.data_folder()) as folder:
            root, archive = Path(folder, "root"), Path(folder, "root.tar")
            self._create_files(root)
            subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
            changes = [word for change in self._changes for word in ("--change", change)]
            run("import", "--quiet", *changes, archive, self.name)

    def _create_files(self, root: Path) -> None:
        for name in (
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "tmp",
            "run",
            "proc",
            "sys",
            "dev",
        ):
            (root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        (root / "tmp").chmod(0o1777)
        users = {"root": 0, self.user: USER_ID}
        (root / "etc/passwd").write_text(
            "".join(f"{name}:x:{n}:{n}::/:/bin/sh\n" for name, n in users.items())
        )
        (root / "etc/group").write_text("".join(f"{name}:x:{n}:\n" for name, n in users.items()))
        for name in self.owned:
            folder = root / name.lstrip("/")
            folder.mkdir(parents=True)
            os.chown(folder, USER_ID, USER_ID)
        (root / "var").mkdir(exist_ok=True)
        (root / "var/run").symlink_to("../run")
        for place in self.folders:
            shutil.copytree(place, root / place.relative_to("/"), symlinks=True, ignore=_IGNORED)
        for program in self.programs:
            path = program if isinstance(program, Path) else _find(program)
            _copy(path, root / path.relative_to("/"))
        for name in self.links:
            _copy(_find("busybox"), root / "usr/bin" / name)
        if self.start:
            script = root / "usr/bin/docker-entrypoint.sh"
            script.write_text(self.start)
            script.chmod(0o755)
        for library in _list_libraries(root):
            _copy(library, root / library.relative_to("/"))

    @property
    def _changes(self) -> Sequence[str]:
        """What the image declares, as lines of a Dockerfile."""
        return [
            *(f"ENV {name}={value}" for name, value in ({"PATH": PATH} | dict(self.variables)).items()),
            *(f"VOLUME {path}" for path in self.volumes),
            *(['ENTRYPOINT ["docker-entrypoint.sh"]'] if self.start else []),
            f"CMD {json.dumps([str(word) for word in self.command])}",
            f"USER {self.run_as}",
            f"STOPSIGNAL {self.stop_signal}",
        ]


def postgresql(variant: str = "") -> Image:
    """Return an image of PostgreSQL: in ``alpine``, Busybox is ``sh`` and ``nc``, and there is no ``bash``; in ``socat``, neither is there.

    ``distroless`` has no program but the server, which needs a data folder that exists.
    """
    binaries = servers._postgresql_binaries() or servers.skip_or_fail("no PostgreSQL for a container")
    version, data = binaries.parent.name, "/var/lib/postgresql/data"
    names = ("initdb", "psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_isready")
    server, clients = binaries / "postgres", [binaries / name for name in names]
    image = Image(
        f"docker.io/library/postgres:{version}",
        [server, *clients, *UTILITIES, "bash", "sh"],
        user="postgres",
        folders=[binaries.parent / "lib", Path("/usr/share/postgresql", version), *_SHARED_FOLDERS],
        owned=[data, "/run/postgresql"],
        start=START_POSTGRESQL,
        command=["postgres"],
        variables={"PGDATA": data, "PG_MAJOR": version, "PATH": f"{PATH}:{binaries}"},
        volumes=[data],
        stop_signal="SIGINT",
    )
    if not variant:
        return image
    image = replace(image, name=f"{image.name}-{variant}")
    if variant == "alpine":
        return replace(image, programs=[server, *clients, *UTILITIES], links=["sh", "nc"])
    if variant == "socat":
        return replace(image, programs=[server, *clients, *UTILITIES, "socat"], links=["sh"])
    command = [server, "-c", "listen_addresses=*"]
    return replace(image, programs=[server], start="", command=command, run_as="postgres")


def mariadb(variant: str = "") -> Image:
    """Return an image of MariaDB: in ``socat``, there is this program instead of ``bash`` and ``perl``."""
    server, _ = servers._mariadb_programs("for a container")
    names = (
        "mariadb-install-db",
        "my_print_defaults",
        "resolveip",
        "mariadb",
        "mariadb-admin",
        "mariadb-dump",
    )
    shells = ["socat", "sh"] if variant == "socat" else ["bash", "perl", "sh"]
    return Image(
        name=f"docker.io/library/mariadb:10.11{variant and f'-{variant}'}",
        programs=[*shells, *UTILITIES, *names, Path(server)],
        user="mysql",
        folders=[Path("/usr/share/mysql"), *_SHARED_FOLDERS],
        owned=["/var/lib/mysql", "/run/mysqld"],
        start=START_MARIADB,
        command=["mariadbd", "--no-defaults"],
        volumes=["/var/lib/mysql"],
    )


def app() -> Image:
    """Return an image of an app with its database file in ``/data``."""
    programs = ["bash", "sh", *UTILITIES, "sqlite3"]
    return Image("localhost/app:latest", programs, owned=["/data"], start=START_APP, volumes=["/data"])


_SHARED_FOLDERS = [Path("/usr/share/zoneinfo"), *Path("/usr/lib/locale").glob("C.*")]
# large or many, and not needed: just-in-time compilation, headers, leap seconds, encodings other than UTF-8
_IGNORED = shutil.ignore_patterns("llvmjit*", "bitcode", "pgxs", "right", "posix", "*_and_*")


def _find(program: str) -> Path:
    """Return the path of a program of this machine, below ``/usr``, which ``/bin`` may be a link to."""
    path = shutil.which(program, path=PATH) or servers.skip_or_fail(f"no {program} for a container")
    return Path(path)


def _copy(source: Path, target: Path) -> None:
    """Copy what a link names, not the link."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _list_libraries(root: Path) -> set[Path]:
    """Return the libraries of this machine that the programs and libraries in an image need."""
    files = [file for file in root.glob("usr/**/*") if file.is_file() and _is_binary(file)]
    text = subprocess.run(["ldd", *files], check=True, capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", text)}


def _is_binary(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"
