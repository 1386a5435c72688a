"""A higher time limit waits until a server accepts connections."""

from __future__ import annotations

import threading
import time

import pytest
from msgspec import structs

from dbctl.engines import registry
from dbctl.errors.connection import UnreachableError
from tests import servers
from tests.relay import open_relay


@pytest.fixture(params=["postgresql", "mysql"])
def url(request):
    """Return the address of an empty database, with TCP connections."""
    url = request.getfixturevalue(request.param).url
    if not url.host or url.host.startswith("/"):
        pytest.skip("the server is reached by a socket")
    return url


def test_connection_waits_until_the_server_accepts_it(url):
    port, opened = servers.free_port(), threading.Event()
    ended = threading.Event()

    def start_later():
        time.sleep(1)
        with open_relay(
            url.host, url.port or {"postgresql": 5432, "mysql": 3306}[url.engine], listening_port=port
        ):
            opened.set()
            ended.wait(30)

    thread = threading.Thread(target=start_later)
    thread.start()
    try:
        later = structs.replace(url, host="127.0.0.1", port=port)
        registry.load_engine(url.engine).open_for_reading(later, "app/user", timeout=20).close()
        assert opened.is_set()
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("timeout", [0, 5])
def test_default_time_limit_reports_a_refused_connection_at_once(url, timeout):
    refused, started = structs.replace(url, host="127.0.0.1", port=servers.free_port()), time.monotonic()
    with pytest.raises(UnreachableError, match="refused"):
        registry.load_engine(url.engine).open_for_reading(refused, "app/user", timeout=timeout)
    assert time.monotonic() - started < 2


def test_refused_connection_is_reported_after_the_time_limit(url):
    refused, started = structs.replace(url, host="127.0.0.1", port=servers.free_port()), time.monotonic()
    with pytest.raises(UnreachableError, match="refused"):
        registry.load_engine(url.engine).open_for_reading(refused, "app/user", timeout=5.5)
    assert 5 < time.monotonic() - started < 9


def test_wrong_login_is_reported_at_once(url):
    wrong, started = structs.replace(url, path="no_such_database"), time.monotonic()
    with pytest.raises(UnreachableError):
        registry.load_engine(url.engine).open_for_reading(wrong, "app/user", timeout=20)
    assert time.monotonic() - started < 3
