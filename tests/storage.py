"""S3 storage for tests: a local server process and the content of its buckets."""

from __future__ import annotations

import atexit
import http.client
import os
import subprocess
import sys
import time
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from dbctl.config import environment
from tests import servers

#: Made up; the server of the tests takes any.
KEY, SECRET = "AKIATESTKEY", "test-secret-never-shown"
_number = count()


@cache
def endpoint() -> str:
    """Return the endpoint of a server that ends with this process."""
    port = servers.free_port()
    running = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        running.terminate()
        running.wait(timeout=30)

    atexit.register(stop)
    deadline = time.monotonic() + 60
    while True:
        assert running.poll() is None, "the server of S3 ended"
        try:
            send_request(port, "GET", "/moto-api/data.json")
        except ConnectionError:
            assert time.monotonic() < deadline, "the server of S3 does not answer"
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{port}"


def send_request(port: int, method: str, path: str) -> bytes:
    """Return what the server answers to a request, which it has to grant."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        signed = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"
        connection.request(method, path, headers={"Authorization": signed})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert answer.status == http.client.OK, content
    return content


def port() -> int:
    """Return the port of that server."""
    return int(endpoint().rpartition(":")[2])


def variables(at: str = "") -> dict[str, str]:
    """Return the variables by which dbctl finds a server and its keys."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": at or endpoint(),
        "AWS_REGION": "us-east-1",
        # Variables of the environment of the tests.
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
    }


def bucket() -> str:
    """Make a new bucket and return its name."""
    name = f"t-{os.getpid()}-{next(_number)}"
    send_request(port(), "PUT", f"/{name}")
    return name


class Bucket:
    """The content of a bucket, read without dbctl."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._store = S3Store(
            name,
            config={
                "endpoint": endpoint(),
                "access_key_id": "other",
                "secret_access_key": "other",
                "region": "us-east-1",
                "disable_bulk_delete": True,
            },
            client_options={"allow_http": True},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=10)},
        )

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(
            entry["path"]
            for page in obstore.list(self._store, prefix or None, chunk_size=1000)
            for entry in page
        )

    def get(self, key: str) -> bytes:
        return bytes(obstore.get(self._store, key).bytes())

    def put(self, key: str, content: bytes) -> None:
        obstore.put(self._store, key, content)

    def delete(self, *keys: str) -> None:
        for key in keys:
            obstore.delete(self._store, key)

    def uploads(self) -> bytes:
        """Return how the server lists what was begun in parts and neither finished nor given up."""
        return send_request(port(), "GET", f"/{self.name}?uploads=")


def given_to(environ: pytest.MonkeyPatch, staging: Path, at: str = "") -> Bucket:
    """Set the variables for the time of a test; return a new bucket."""
    for name in environment.STORAGE_VARIABLES:  # of the environment of the tests
        environ.delenv(name, raising=False)
    for name, value in (variables(at) | {"TMPDIR": str(staging)}).items():
        environ.setenv(name, value)
    return Bucket(bucket())
