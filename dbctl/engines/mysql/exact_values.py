"""The connection of the dump program of MySQL and MariaDB through dbctl.

The program loses data of some values: it writes a FLOAT with six digits, and question marks for characters that Unicode
lacks. No option prevents that. So it connects to a session that dbctl has opened, and dbctl replaces such columns in its
queries for rows by expressions. It limits the query for a table whose rows are left out to none, for which only the program of
MariaDB has an option. All other packets pass unchanged.
"""

from __future__ import annotations

import re
import secrets
import select
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from pymysql.constants import CLIENT, COMMAND, SERVER_STATUS

from dbctl.engines.contract.route import wrap_program
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.opening import open_dump_session
from dbctl.engines.mysql.session import Session
from dbctl.engines.servers.connection import CONNECT_SECONDS
from dbctl.files import limited_program, temp
from dbctl.files.subprocesses import BLOCK, POLL_SECONDS, SECRETS_PREFIX
from dbctl.url import Url

#: Capabilities that the program may request; none changes the format of results.
CAPABILITIES = (
    CLIENT.LONG_PASSWORD
    | CLIENT.LONG_FLAG
    | CLIENT.CONNECT_WITH_DB
    | CLIENT.PROTOCOL_41
    | CLIENT.TRANSACTIONS
    | CLIENT.SECURE_CONNECTION
    | CLIENT.MULTI_RESULTS
    | CLIENT.PLUGIN_AUTH
)
#: The authentication that the program uses here; any reply is accepted, since the socket is private.
PLUGINS = {"MariaDB": b"mysql_native_password", "MySQL": b"caching_sha2_password"}
UTF8MB4 = 45  #: the number of a collation
SCRAMBLE = b"dbctl" * 4  #: 20 arbitrary bytes
OK = b"\0\0\0" + struct.pack("<HH", SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT, 0)
#: Maximum bytes of a socket path on every system.
MAX_PATH_BYTES = 100
#: A query for the rows of a table.
_ROWS = re.compile(
    rb"(?P<head>SELECT /\*!40001 SQL_NO_CACHE \*/ )(?P<columns>.*?)"
    rb"(?P<tail> FROM `(?P<table>(?:[^`]|``)*)`(?: (?:FOR SYSTEM_TIME|PARTITION|WHERE|ORDER)\b.*)?)",
    re.DOTALL,
)
_NAME = re.compile(rb"`(?:[^`]|``)*`")

#: SQL for each column of tables whose values the program would not write exactly; tables and columns are quoted names.
ExactColumns = Mapping[str, Mapping[str, str]]


#: Listens at the socket ``$1/socket`` in a container for one connection, which is relayed to its input and output; ``$2`` is ``_LISTEN``.
#: The end of its input, which is that of dbctl, ends it.
_LISTENER = """umask 077; mkdir "$1" || exit; trap 'rm -rf "$1"' EXIT
if command -v perl > /dev/null; then perl -e "$2" "$1/socket"
else socat - "UNIX-LISTEN:$1/socket,accept-timeout=60"
fi"""
#: Without modules, which small images lack.
_LISTEN = """
socket($listening, 1, 1, 0) && bind($listening, pack("Sa*", 1, shift)) && listen($listening, 1) or exit 1;
my ($client, $waiting);
sub send_all { my ($to, $text) = @_; while (length $text) { substr($text, 0, syswrite($to, $text) // exit, "") } }
while (1) {
  my ($ready, $other) = ("", $client // $listening);
  vec($ready, $_, 1) = 1 for 0, fileno $other;
  select($ready, undef, undef, undef);
  if (vec($ready, 0, 1)) {
    sysread(STDIN, my $text, 65536) or exit;
    if ($client) { send_all($client, $text) } else { $waiting .= $text }
  }
  next unless vec($ready, fileno $other, 1);
  if ($client) { sysread($client, my $text, 65536) or exit; send_all(STDOUT, $text) }
  else { accept($client, $listening) or exit; send_all($client, $waiting) }
}
"""
#: Runs a program once the socket ``$1`` exists, or after 10 s.
WAIT_FOR_SOCKET = (
    """n=0; until [ -S "$1" ] || [ $n = 100 ]; do sleep 0.1; n=$((n + 1)); done; shift; exec "$@" """
)
_PROBE = "command -v perl || command -v socat"
#: Seconds for a listener to end.
_END_SECONDS = 10


def can_listen(url: Url, target: str) -> bool:
    """Whether the container at the end of the route of ``url`` can provide the socket of a relay."""
    words = wrap_program(url, target, ["sh", "-c", _PROBE])
    try:
        limited_program.run(words or (), seconds=CONNECT_SECONDS, max_bytes=MAX_PATH_BYTES)
    except limited_program.ProgramFailedError:
        return False
    return True


@contextmanager
def start_relay(
    url: Url,
    server: Server,
    target: str,
    exact: Mapping[str, Mapping[str, str]] = {},
    *,
    timeout: float,
    in_container: bool,
    empty: Collection[str] = (),
) -> Iterator[Relay | None]:
    """Listen on a socket for one connection of a program, and relay it to a new session with the database at ``url``.

    Nothing is started if the program needs neither that nor the settings of dbctl: None. ``in_container``: it runs in the
    container at the end of the route. ``empty``: the quoted names of tables of which it shall read no rows.
    """
    if not (exact or empty or server.needs_relay(in_container=in_container)):
        yield None
        return
    session = open_dump_session(url, target, timeout=timeout)
    temp_folder = Path(tempfile.gettempdir())
    if len(str(temp_folder / f"{SECRETS_PREFIX}12345678" / "socket")) > MAX_PATH_BYTES:
        temp_folder = Path("/tmp")  # noqa: S108 - the folder in it is private
    with (
        temp.folder(temp_folder, SECRETS_PREFIX) as folder,
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listening,
    ):
        listening.bind(str(folder / "socket"))
        listening.listen(1)
        relay = Relay(folder / "socket", listening, session, exact, empty)
        relay.start()
        try:
            with _listen_in_container(relay, url, target) if in_container else nullcontext():
                yield relay
        finally:
            relay.stop()


@contextmanager
def _listen_in_container(relay: Relay, url: Url, target: str) -> Iterator[None]:
    """Relay the only connection to a socket in the container of ``url``, which is ``relay.path`` then."""
    folder = f"/tmp/{SECRETS_PREFIX}{secrets.token_hex(8)}"  # noqa: S108 - of the container; the listener creates it
    words = wrap_program(url, target, ["sh", "-c", _LISTENER, "listen", folder, _LISTEN])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(relay.path))
        program = subprocess.Popen(  # noqa: S603 - a part of the configured route, without a shell
            words or (),
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        relay.path = Path(folder, "socket")
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            try:
                program.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


class Relay(threading.Thread):
    """Relay of queries and results while the program runs."""

    def __init__(
        self,
        path: Path,
        listening: socket.socket,
        session: Session,
        exact: ExactColumns,
        empty: Collection[str],
    ) -> None:
        super().__init__(daemon=True)
        self.path = path
        #: Quoted names of tables that no recognized query of the program has read yet.
        self.missing = {*exact, *empty}
        self._listening, self._session = listening, session
        self._exact = {
            table.encode(): {name.encode(): sql.encode() for name, sql in columns.items()}
            for table, columns in exact.items()
        }
        self._empty = {table.encode() for table in empty}
        self._stop_event = threading.Event()

    def run(self) -> None:
        self._server.settimeout(None)  # the caller that runs the program limits its silence
        while not self._stop_event.is_set():
            if select.select([self._listening], [], [], POLL_SECONDS)[0]:
                client, _ = self._listening.accept()
                with closing(client), suppress(OSError):  # the program reports a lost connection itself
                    self._greet(client)
                    self._pass_on(client)
                return

    def stop(self) -> None:
        self._stop_event.set()
        self.join(POLL_SECONDS * 20)
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self.join()
        self._session.drop()

    @property
    def _server(self) -> socket.socket:
        return self._session._sock  # noqa: SLF001 - the driver has no public attribute for it

    def _greet(self, client: socket.socket) -> None:
        version, plugin = self._session.server_version, PLUGINS[self._session.server.product]
        low, high = CAPABILITIES & 0xFFFF, CAPABILITIES >> 16
        greeting = (
            b"\x0a" + version.encode("latin1") + b"\0" + struct.pack("<I", self._session.connection_id & 0xFFFFFFFF)
            + SCRAMBLE[:8] + b"\0"
            + struct.pack("<HBHHB", low, UTF8MB4, SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT, high, 21)
            + bytes(10) + SCRAMBLE[8:] + b"\0" + plugin + b"\0"
        )  # fmt: skip
        client.sendall(_pack(greeting, 0))
        if _receive_packet(client) is not None:
            client.sendall(_pack(OK, 2))

    def _pass_on(self, client: socket.socket) -> None:
        """Relay packets in both directions until the program ends."""
        server = self._server
        poll = select.poll()
        poll.register(client, select.POLLIN)
        poll.register(server, select.POLLIN)
        while True:
            decrypted = isinstance(server, ssl.SSLSocket) and server.pending()
            ready = [server.fileno()] if decrypted else [descriptor for descriptor, _ in poll.poll()]
            if server.fileno() in ready:
                if not (block := server.recv(BLOCK)):
                    return
                client.sendall(block)
            elif client.fileno() in ready:
                command = _receive_packet(client)
                if command is None or command[0] == COMMAND.COM_QUIT:
                    return
                server.sendall(_pack(self._rewrite(command), 0))

    def _rewrite(self, command: bytes) -> bytes:
        """Return a command, with exact expressions or without rows if it is a query for rows."""
        match = _ROWS.fullmatch(command, 1) if command[0] == COMMAND.COM_QUERY else None
        table = b"`" + match["table"] + b"`" if match else b""
        exact, is_empty = self._exact.get(table, {}), table in self._empty
        if not (match and (exact or is_empty)):
            return command
        self.missing.discard(table.decode())
        columns = b", ".join(exact) if exact and match["columns"] == b"*" else match["columns"]
        columns = _NAME.sub(lambda name: exact.get(name[0], name[0]), columns)
        return command[:1] + match["head"] + columns + match["tail"] + b" LIMIT 0" * is_empty


def _pack(payload: bytes, number: int) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def _receive_packet(client: socket.socket) -> bytes | None:
    """Return the next packet of the program, or None at the end."""
    head = _receive_bytes(client, 4)
    return head and _receive_bytes(client, int.from_bytes(head[:3], "little"))


def _receive_bytes(client: socket.socket, size: int) -> bytes | None:
    buffer = bytearray()
    while len(buffer) < size:
        if not (block := client.recv(size - len(buffer))):
            return None
        buffer += block
    return bytes(buffer)
