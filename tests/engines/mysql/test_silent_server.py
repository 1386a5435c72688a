"""Opening a MySQL database ends within a time limit, even if the server is silent or violates the protocol."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from dbctl.engines import registry
from dbctl.engines.mysql import opening
from dbctl.errors.connection import UnreachableError
from dbctl.url import parse_url

CAPABILITIES = b"\xff\xff\x21\x02\x00\xff\xdf\x15" + bytes(10)
GREETING = (
    b"\x0a8.0.30\0\1\0\0\0" + b"12345678\0" + CAPABILITIES + b"123456789012\0" + b"mysql_native_password\0"
)
OK = b"\x00\x00\x00\x02\x00\x00\x00"


def build_packet(body, number=0):
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def send_slowly(connection, ended):
    """Send single bytes at short intervals, so that no read of a byte times out."""
    while not ended.wait(0.1):
        connection.sendall(b"\n")


def send_nothing(_connection, ended):
    ended.wait()


def send_http(connection, ended):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    ended.wait()


def greet_slowly(connection, ended):
    connection.sendall(b"\xff\xff\x00\x00")
    send_slowly(connection, ended)


def encrypt_slowly(connection, ended):
    connection.sendall(build_packet(GREETING))
    connection.recv(1024)
    connection.sendall(b"\x16\x03\x03\x40\x00")
    send_slowly(connection, ended)


def authenticate_and_send_nothing(connection, ended):
    connection.sendall(build_packet(GREETING.replace(b"\xff\xff\x21", b"\xff\xf7\x21")))  # without TLS
    connection.recv(1024)
    connection.sendall(build_packet(OK, 2))
    ended.wait()


def close_connection(_connection, _ended):
    pass


@contextmanager
def run_server(serve):
    """Run a server that calls ``serve`` for each connection; yield its port."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def handle_connection(connection):
            with connection, suppress(OSError):
                serve(connection, ended)

        def accept_connections():
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=handle_connection, args=(connection,), daemon=True).start()

        threading.Thread(target=accept_connections, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "serve",
    [send_nothing, send_http, greet_slowly, encrypt_slowly, authenticate_and_send_nothing, close_connection],
)
def test_opening_a_faulty_server_ends_within_the_time_limit(serve):
    with run_server(serve) as port:
        url = parse_url(f"mysql://u:p@127.0.0.1:{port}/d?connect_timeout=1")
        with pytest.raises(UnreachableError):
            registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)


@pytest.mark.parametrize(("timeout", "limit"), [(1, 2), (3, 3)])
def test_error_names_the_time_limit(monkeypatch, timeout, limit):
    monkeypatch.setattr(opening, "CONNECT_SECONDS", 2)
    with run_server(send_nothing) as port, pytest.raises(UnreachableError) as failure:
        registry.load_engine("mysql").open_for_reading(
            parse_url(f"mysql://u:p@127.0.0.1:{port}/d"), "app/main", timeout=timeout
        )
    assert f"within {limit} seconds" in str(failure.value)
    assert (f"--timeout {timeout}" in str(failure.value)) == (timeout < limit)
