"""S3 storage for tests: a local server process and the content of its buckets."""

from __future__ import annotations

import atexit
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore, S3Store

from dbctl.config import s3
from tests import servers

#: The server accepts any keys.
KEY, SECRET = "AKIATESTKEY", "test-secret-never-shown"
_number = count()


@cache
def endpoint() -> str:
    """Return the endpoint of the S3 server, which all workers of a run share; without a run, it stops with this process."""
    if servers.SHARED in os.environ:
        return servers.share("s3", _start)
    server = _start()
    atexit.register(server.stop)
    return server.url


def _start() -> servers.Running:
    port = servers.free_port()
    folder = Path(tempfile.mkdtemp(prefix="dbctl-s3-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not reach the server
    )
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the S3 server ended"
        try:
            send_request(port, "GET", "/moto-api/data.json")
        except ConnectionError:
            assert time.monotonic() < deadline, "the S3 server does not respond"
            time.sleep(0.1)
        else:
            return servers.Running(f"http://127.0.0.1:{port}", process, folder, signal.SIGTERM)


def send_request(port: int, method: str, path: str) -> bytes:
    """Send a request, and return the content of the response; assert that it succeeds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        authorization = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"
        connection.request(method, path, headers={"Authorization": authorization})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    assert response.status == http.client.OK, content
    return content


def port() -> int:
    return int(endpoint().rpartition(":")[2])


def variables(at: str = "") -> dict[str, str]:
    """Return the environment variables for a server and its keys."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": at or endpoint(),
        "AWS_REGION": "us-east-1",
        # the files of the user who runs the tests must have no effect
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
    }


def create_bucket() -> str:
    """Create a bucket and return its name."""
    name = f"t-{os.getpid()}-{next(_number)}"
    send_request(port(), "PUT", f"/{name}")
    return name


class Bucket:
    """The content of a bucket, read without dbctl."""

    def __init__(self, name: str, store: ObjectStore) -> None:
        self.name, self._store = name, store

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
        """Return the list of unfinished multipart uploads, as the server returns it."""
        return send_request(port(), "GET", f"/{self.name}?uploads=")


def open_bucket(name: str) -> Bucket:
    store = S3Store(
        name,
        config={
            "endpoint": endpoint(),
            "access_key_id": "other",
            "secret_access_key": "other",
            "region": "us-east-1",
            "disable_bulk_delete": True,
        },
        client_options={"allow_http": True},
        # the server fails to read an object that is replaced at the same moment
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
    )
    return Bucket(name, store)


def use_new_bucket(environ: pytest.MonkeyPatch, staging: Path, at: str = "") -> Bucket:
    """Set the environment variables for the duration of a test; return a new bucket."""
    for name in s3.VARIABLES:
        environ.delenv(name, raising=False)
    for name, value in (variables(at) | {"TMPDIR": str(staging)}).items():
        environ.setenv(name, value)
    return open_bucket(create_bucket())
