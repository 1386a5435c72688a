"""Whatever answers at the address of a MySQL server, or does not answer, opening the database ends in time."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from dbctl.engines import registry
from dbctl.engines.mysql import session
from dbctl.errors import UnreachableError
from dbctl.url import parse

CAPABILITIES = b"\xff\xff\x21\x02\x00\xff\xdf\x15" + bytes(10)
GREETING = (
    b"\x0a8.0.30\0\1\0\0\0" + b"12345678\0" + CAPABILITIES + b"123456789012\0" + b"mysql_native_password\0"
)
OK = b"\x00\x00\x00\x02\x00\x00\x00"


def packet(body, number=0):
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def drip(connection, ended):
    """Send a byte now and then, so that no wait for a single byte is long."""
    while not ended.wait(0.1):
        connection.sendall(b"\n")


def be_silent(_connection, ended):
    ended.wait()


def speak_http(connection, ended):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    ended.wait()


def greet_slowly(connection, ended):
    connection.sendall(b"\xff\xff\x00\x00")
    drip(connection, ended)


def encrypt_slowly(connection, ended):
    connection.sendall(packet(GREETING))
    connection.recv(1024)
    connection.sendall(b"\x16\x03\x03\x40\x00")
    drip(connection, ended)


def sign_in_and_be_silent(connection, ended):
    connection.sendall(packet(GREETING.replace(b"\xff\xff\x21", b"\xff\xf7\x21")))  # without TLS
    connection.recv(1024)
    connection.sendall(packet(OK, 2))
    ended.wait()


def hang_up(_connection, _ended):
    pass


@contextmanager
def serving(behave):
    """Give the port of a server that does with each connection what ``behave`` does."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk(connection):
            with connection, suppress(OSError):
                behave(connection, ended)

        def accept():
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "behave",
    [
        be_silent,
        speak_http,
        greet_slowly,
        encrypt_slowly,
        sign_in_and_be_silent,
        hang_up,
    ],
)
def test_opening_ends_whatever_answers(behave):
    with serving(behave) as port:
        url = parse(f"mysql://u:p@127.0.0.1:{port}/d?connect_timeout=1")
        with pytest.raises(UnreachableError):
            registry.open_for_reading(url, "app/main", timeout=1)


@pytest.mark.parametrize(("timeout", "limit"), [(1, 2), (3, 3)])
def test_the_error_names_the_limit_that_was_in_force(monkeypatch, timeout, limit):
    monkeypatch.setattr(session, "CONNECT_SECONDS", 2)
    with serving(be_silent) as port, pytest.raises(UnreachableError) as failure:
        registry.open_for_reading(parse(f"mysql://u:p@127.0.0.1:{port}/d"), "app/main", timeout=timeout)
    assert f"within {limit} seconds" in str(failure.value)
    assert (f"--timeout {timeout}" in str(failure.value)) == (timeout < limit)
