"""A private server of MariaDB: without network, settings of this machine, plugins and paths outside its folder."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from dbctl.engines.mysql.dialect import parse_server
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.swap import MySQLServer
from dbctl.errors.connection import UnreachableError
from dbctl.extensions.recover.errors import RecoveryFailedError, RecoveryServerMissingError
from dbctl.extensions.recover.private_server import PrivateFolder, PrivateServer, run_server
from dbctl.files import subprocesses
from dbctl.model import Secret, Struct
from dbctl.url import Url

PACKAGE = "mariadb-server"
#: Where distributions install servers, besides the path.
_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/libexec:/usr/local/libexec"
_VERSION = re.compile(r"Ver (\d+)\.(\d+)\.\d+-MariaDB")
#: Seconds to wait for a server that starts, and between two attempts.
_START_SECONDS, _POLL_SECONDS = 120.0, 0.1
_OPTIONS = (
    "--skip-networking",
    "--skip-name-resolve",
    # A table whose definition names a directory is created in the data folder: the directory may be that of the live server.
    "--skip-symbolic-links",
    "--skip-log-bin",
    "--skip-slave-start",
    "--event-scheduler=OFF",
    "--local-infile=OFF",
    "--max-allowed-packet=1G",
    # Its files are deleted at the end in any case.
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF",
    "--skip-innodb-buffer-pool-load-at-startup",
    "--skip-innodb-buffer-pool-dump-at-shutdown",
)
#: An id that no other server has, since it is the largest one.
SERVER_ID = 4_294_967_295
#: The folder of the data, in the private folder, and the options with which it is created.
DATA, _FIXED = "mysql", ("--innodb-page-size=", "--lower-case-table-names=")
UNUSED = "The live database was not used."
#: Begins a line of the log about an error.
_ERROR = "[ERROR]"


class Programs(Struct, frozen=True, kw_only=True):
    server: Path
    install: Path  #: creates a data folder


def find_programs(version: str, target: str) -> Programs:
    """Return the programs of this machine for a server of ``version`` or a newer one.

    Raises:
        RecoveryServerMissingError: they are not installed, or too old.
    """
    required = parse_server(version, target).version[:2]
    names = ("mariadbd", "mariadb-install-db")
    server, install = (shutil.which(name) or shutil.which(name, path=_FOLDERS) for name in names)
    match = _VERSION.search(subprocesses.read_version(Path(server))) if server else None
    if server is None or install is None or match is None or (int(match[1]), int(match[2])) < required:
        product = f"MariaDB {'.'.join(map(str, required))}, or of a newer version,"
        raise RecoveryServerMissingError(target=target, server=product, package=PACKAGE)
    return Programs(server=Path(server), install=Path(install))


class MariaDBServer:
    """A running private server."""

    def __init__(self, server: PrivateServer, url: Url, target: str) -> None:
        self._server, self.url, self._target = server, url, target
        self._access = MySQLServer(url, target)

    @contextmanager
    def open_session(self) -> Iterator[Session]:
        """Connect as the administrator.

        Raises:
            RecoveryFailedError: the connection cannot be opened, or is lost.
        """
        try:
            with self._access.translate_errors(), self._access.central() as session:
                yield session
        except UnreachableError as error:
            raise self.create_error(
                _find_error(self._server) if self._server.has_ended else str(error)
            ) from error

    def create_error(self, reason: str) -> RecoveryFailedError:
        """Return the error about a failure of the server."""
        return RecoveryFailedError(target=self._target, reason=reason, hint=UNUSED)

    def wait_for_start(self) -> None:
        """Wait until the server accepts connections; raises ``RecoveryFailedError``."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self._access.translate_errors(), self._access.central():
                    return
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise self.create_error(f"it did not start within {_START_SECONDS:g} s") from None
            self.wait()

    def wait(self) -> None:
        """Wait a moment; raises ``RecoveryFailedError`` if the server has ended."""
        if self._server.has_ended:
            raise self.create_error(_find_error(self._server))
        self._server.wait(_POLL_SECONDS)


def create_data(programs: Programs, folder: PrivateFolder, options: Sequence[str], target: str) -> None:
    """Create the data folder of a server.

    Raises:
        RecoveryFailedError: the program failed.
    """
    for name in ("empty", "tmp"):
        (folder.data / name).mkdir(mode=0o700)
        folder.give(folder.data / name)
    fixed = [option for option in options if option.startswith(_FIXED)]
    argv = [
        str(programs.install),
        *_folder_options(folder),
        *fixed,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]
    with run_server(argv, folder, end=signal.SIGKILL) as program:
        while not program.has_ended:
            program.wait(_POLL_SECONDS)
        if program.exit_status:
            reason = f"{programs.install.name}: {_find_error(program)}"
            raise RecoveryFailedError(target=target, reason=reason, hint=UNUSED)


def _find_error(server: PrivateServer) -> str:
    """Return the last error in the messages of a server."""
    lines = server.read_log().splitlines()
    errors = [line.partition(_ERROR)[2].strip() for line in lines if _ERROR in line]
    return (errors or lines or ["it ended without a message"])[-1]


def _folder_options(folder: PrivateFolder) -> list[str]:
    return ["--no-defaults", f"--datadir={folder.data / DATA}", f"--tmpdir={folder.data / 'tmp'}"]


@contextmanager
def start_server(
    programs: Programs,
    folder: PrivateFolder,
    options: Sequence[str],
    environment: Mapping[str, str],
    database: str,
    target: str,
) -> Iterator[MariaDBServer]:
    """Run a server with the data of ``create_data``; its address names ``database``, which does not exist yet.

    Raises:
        RecoveryFailedError: it does not start.
    """
    socket_file, empty = folder.socket / "s", folder.data / "empty"
    argv = [
        str(programs.server),
        *_folder_options(folder),
        *_OPTIONS,
        f"--socket={socket_file}",
        f"--pid-file={folder.data / 'pid'}",
        f"--server-id={SERVER_ID}",
        # Statements can read neither files of this machine nor libraries.
        f"--secure-file-priv={empty}",
        f"--plugin-dir={empty}",
        *options,
    ]
    url = Url(
        engine="mysql",
        user="root",
        password=Secret(""),
        path=database,
        options=f"unix_socket={quote(str(socket_file))}",
    )
    with run_server(argv, folder, end=signal.SIGKILL, environment=environment) as server:
        result = MariaDBServer(server, url, target)
        result.wait_for_start()
        yield result
