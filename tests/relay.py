"""A TCP relay to a server that stops passing bytes while its connections stay open."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK = 1 << 16


class Relay:
    """Pass bytes between clients and a server until the relay falls silent."""

    def __init__(self, listening: socket.socket, host: str, port: int) -> None:
        self._listening, self._server = listening, (host, port)
        self.port: int = listening.getsockname()[1]
        self._ended = threading.Event()
        self._silent = threading.Event()
        self._newest = 0  #: number of the last silent connection
        self._count = 0
        self.round_trips = 0  #: requests of clients to which the server replied
        self.bytes_until_silence: int | None = None  #: bytes to pass before it falls silent; None: unlimited
        self.relays_new = (
            False  #: whether later connections work after it has fallen silent for one of these reasons
        )
        self.silence_trigger: bytes | None = None  #: bytes after which it falls silent

    def fall_silent(self, *, for_new: bool = True) -> None:
        """Stop passing bytes; later connections still work unless ``for_new``."""
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
        with suppress(OSError):  # already ended
            self._listening.shutdown(socket.SHUT_RDWR)

    def _is_silent(self, number: int) -> bool:
        return self._silent.is_set() and number <= self._newest

    def _pass_on(self, client: socket.socket, number: int) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            is_request_open = False
            while not self._ended.is_set():
                if self._is_silent(number):
                    self._ended.wait()
                    return
                for ready in select.select([client, server], [], [], 0.02)[0]:
                    if not (block := ready.recv(BLOCK)):
                        return
                    if self._is_silent(number):
                        break
                    self.round_trips += is_request_open and ready is server
                    is_request_open = ready is client
                    self._count_down(block)  # first: who receives the block may read the number
                    (client if ready is server else server).sendall(block)

    def _count_down(self, block: bytes) -> None:
        if self.silence_trigger is not None and self.silence_trigger in block:
            self.fall_silent(for_new=not self.relays_new)
        if self.bytes_until_silence is not None:
            self.bytes_until_silence -= len(block)
            if self.bytes_until_silence <= 0:
                self.fall_silent(for_new=not self.relays_new)


@contextmanager
def open_relay(host: str, port: int, *, listening_port: int = 0) -> Iterator[Relay]:
    """Yield a relay to a server; it ends with the context."""
    with socket.create_server(("127.0.0.1", listening_port)) as listening:
        relay = Relay(listening, host, port)
        threading.Thread(target=relay.accept, daemon=True).start()
        try:
            yield relay
        finally:
            relay.end()
