"""A way to a server that falls silent: it stays connected, and passes nothing on any more."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK = 1 << 16


class Relay:
    """Passes bytes between clients and a server until it is silent."""

    def __init__(self, listening: socket.socket, host: str, port: int) -> None:
        self._listening, self._server = listening, (host, port)
        self.port: int = listening.getsockname()[1]
        self._ended = threading.Event()
        self._silent = threading.Event()
        self._newest = 0  #: the last connection that is silent; later ones are not
        self._count = 0
        self.bytes_until_silence: int | None = None  #: None: it is not silent by itself
        self.spares_new = False  #: where it falls silent by itself: whether later connections are passed on
        self.last_words: bytes | None = None  #: it falls silent once the server has sent them

    def fall_silent(self, *, for_new: bool = True) -> None:
        """Pass nothing on from now on; connections that are made later are passed on unless ``for_new``."""
        self._newest = 1 << 30 if for_new else self._count
        self._silent.set()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._count += 1
                threading.Thread(target=self._pass_on, args=(client, self._count), daemon=True).start()

    def end(self) -> None:
        """Close every connection."""
        self._ended.set()
        with suppress(OSError):  # it was ended before
            self._listening.shutdown(socket.SHUT_RDWR)

    def _is_silent(self, number: int) -> bool:
        return self._silent.is_set() and number <= self._newest

    def _pass_on(self, client: socket.socket, number: int) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            while not self._ended.is_set():
                if self._is_silent(number):
                    self._ended.wait()
                    return
                for ready in select.select([client, server], [], [], 0.02)[0]:
                    if not (block := ready.recv(BLOCK)):
                        return
                    if self._is_silent(number):
                        break
                    (client if ready is server else server).sendall(block)
                    self._count_down(block)

    def _count_down(self, block: bytes) -> None:
        if self.last_words is not None and self.last_words in block:
            self.fall_silent(for_new=not self.spares_new)
        if self.bytes_until_silence is not None:
            self.bytes_until_silence -= len(block)
            if self.bytes_until_silence <= 0:
                self.fall_silent(for_new=not self.spares_new)


@contextmanager
def relaying(host: str, port: int) -> Iterator[Relay]:
    """Give a relay to a server, which ends with this."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay = Relay(listening, host, port)
        threading.Thread(target=relay.accept, daemon=True).start()
        try:
            yield relay
        finally:
            relay.end()
