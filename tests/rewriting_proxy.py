"""A proxy to a server that changes the SQL text of its clients: a server without some features.

The server itself rejects the changed statements, with its own error and the consequences for the transaction.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dbctl.url import Url
from tests import servers

Rewrite = Callable[[bytes], bytes]


class Proxy:
    """Accepts connections, each of which has its own connection to the server."""

    def __init__(self, listening: socket.socket, server: Url, rewrite: Rewrite) -> None:
        self._listening, self._server, self._rewrite = listening, server, rewrite
        self.port: int = listening.getsockname()[1]
        self.rewritten: list[bytes] = []  #: the original statements that were changed

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        is_postgresql = self._server.engine == "postgresql"
        pass_statements = self._pass_postgresql if is_postgresql else self._pass_mysql
        with client, socket.create_connection((self._server.host, self._server.port or 0)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=_run, args=(_pass_bytes, server, client), daemon=True)
            answers.start()
            _run(pass_statements, client, server)
            answers.join()

    def _change(self, sql: bytes) -> bytes:
        changed = self._rewrite(sql)
        if changed != sql:
            self.rewritten.append(sql)
        return changed

    def _pass_postgresql(self, client: socket.socket, server: socket.socket) -> None:
        is_started = False
        while True:
            kind = _read(client, 1) if is_started else b""
            body = _read(client, struct.unpack("!I", _read(client, 4))[0] - 4)
            # A request for encryption is answered by the server, which refuses it, and the start follows.
            is_started = is_started or body[:4] == struct.pack("!I", 196608)
            if kind == b"Q":
                body = self._change(body[:-1]) + b"\0"
            elif kind == b"P":
                name, sql, parameters = body.split(b"\0", 2)
                body = b"\0".join([name, self._change(sql), parameters])
            server.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _pass_mysql(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            head = _read(client, 4)
            body = _read(client, int.from_bytes(head[:3], "little"))
            if body[:1] == b"\x03" and head[3] == 0:  # a query, not an answer during the start
                body = b"\x03" + self._change(body[1:])
            server.sendall(len(body).to_bytes(3, "little") + head[3:] + body)


def _run(pass_data: Callable[[socket.socket, socket.socket], None], *ends: socket.socket) -> None:
    with suppress(OSError, EOFError):
        pass_data(*ends)
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _pass_bytes(source: socket.socket, destination: socket.socket) -> None:
    while block := source.recv(1 << 16):
        destination.sendall(block)


def _read(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (block := source.recv(size - len(data))):
            raise EOFError
        data += block
    return data


@contextmanager
def open_proxy(url: Url, rewrite: Rewrite) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy to the server at ``url``, and the URL of the same database behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy = Proxy(listening, url, rewrite)
        threading.Thread(target=proxy.accept, daemon=True).start()
        own = servers.text(url).replace(f"{url.host}:{url.port}", f"127.0.0.1:{proxy.port}")
        yield (
            proxy,
            own
            + ("&" if "?" in own else "?")
            + ("sslmode=disable&gssencmode=disable" if url.engine == "postgresql" else "ssl-mode=disabled"),
        )
        listening.shutdown(socket.SHUT_RDWR)
