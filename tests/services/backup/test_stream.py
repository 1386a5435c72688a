"""Backups whose dumps are stored while they are written, without a local copy."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from pyrage import x25519

from dbctl.errors.backup import BackupFailedError
from dbctl.errors.base import Exit
from dbctl.services.backup import streaming
from dbctl.services.backup.member_files import BackupWriter
from dbctl.stores.directory import DirectoryWriter
from dbctl.stores.objects import connection
from tests import storage
from tests.caching import postgresql_database
from tests.fault_proxy import FaultProxy, error_response
from tests.in_process import ROOT
from tests.reach.ssh import start_ssh
from tests.services import larder_app
from tests.services.backup.test_increments_commands import bucket, create_identity, replace_setting  # noqa: F401 - a fixture
from tests.small_disk import mount_disk

SERVERS = ("postgresql", pytest.param("postgresql schema", marks=pytest.mark.slow), "mysql")
#: Rows of 1,700 random characters, which no server moves out of the row: a dump of 2.5 MB, and of 20 MB, which has several parts.
FEW, MANY = 1_500, 12_000


@pytest.fixture(params=SERVERS)
def pantry(request, tmp_path, monkeypatch, bucket):  # noqa: F811
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        prepare(app, monkeypatch, bucket)
        yield app


@pytest.fixture
def rows():
    return MANY


@pytest.fixture
def larder(tmp_path, monkeypatch, bucket, rows):  # noqa: F811
    """Provide the app on PostgreSQL, with a dump of several parts unless the test states fewer rows."""
    (tmp_path / "app").mkdir()
    with postgresql_database(FILLS[rows]) as url:
        app = larder_app.ServedPantry(tmp_path / "app", url)
        prepare(app, monkeypatch, bucket)
        yield app


def prepare(app, monkeypatch, bucket):  # noqa: F811
    replace_setting(app.folder, "repository", f'repository = "s3://{bucket.name}"\nstream = true')
    monkeypatch.chdir(app.folder)
    monkeypatch.setenv("DBCTL_STATE", str(app.folder / "state"))


def fill(run, rows):
    """Add a table whose rows cannot be compressed by half; ``run`` executes a statement."""
    run("create table much (id int primary key, text varchar(1700))")
    generator = random.Random(1)  # noqa: S311 - no secrets
    for start in range(0, rows, 500):
        values = ", ".join(f"({start + row}, '{generator.randbytes(850).hex()}')" for row in range(500))
        run(f"insert into much values {values}")


def fill_larder(rows, connection):
    larder_app.fill_postgresql(connection)
    fill(connection.execute, rows)


#: By number of rows, the content of a database of which tests get copies.
FILLS = {rows: partial(fill_larder, rows) for rows in (FEW, MANY)}


def create(answer, *options):
    return answer("backup", "create", *options)["data"]


def describe(member):
    """Return what the content of a member determines."""
    return {name: member[name] for name in ("database", "engine", "rows", "schema", "digests", "only")}


@pytest.mark.parametrize(
    ("repository", "options"),
    [  # what is stored does not depend on where it is
        ("bucket", []),
        pytest.param("directory", [], marks=pytest.mark.slow),
        pytest.param("bucket", ["--compress", "none"], marks=pytest.mark.slow),
        pytest.param("bucket", ["--table", "recipes"], marks=pytest.mark.slow),
    ],
)
def test_streamed_backup_is_that_of_a_local_copy(answer, pantry, repository, options):
    fill(pantry.run, FEW)
    if repository == "directory":
        replace_setting(pantry.folder, "repository", 'repository = "backups"')
    content = pantry.content()
    plan = answer("backup", "create", *options, "--dry-run")["data"]["plan"]
    assert plan["steps"][0].endswith("without a local copy")
    streamed = create(answer, *options)
    local = create(answer, *options, "--no-stream")
    assert list(map(describe, streamed["members"])) == list(map(describe, local["members"]))
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    if "--table" in options:
        return
    answer("backup", "drill", streamed["id"])
    pantry.run("delete from much where id > 100")
    answer("restore", "apply", streamed["id"], "--yes")
    assert pantry.content() == content


@pytest.mark.parametrize("form", ["custom", pytest.param("plain", marks=pytest.mark.slow)])
def test_each_form_is_encrypted_while_it_is_written(answer, larder, form):
    recipient = create_identity(larder.folder, "id.txt")
    replace_setting(larder.folder, "encrypt", f'encrypt = {{ recipients = ["{recipient}"] }}')
    content = larder.content()
    backup = create(answer, "--format", form)
    (member,) = backup["members"]
    assert member["encryption"] == "age"
    assert answer("backup", "verify", "--deep", "--identity", "id.txt")["data"]["findings"] == []
    larder.run("delete from much")
    answer("restore", "apply", backup["id"], "--identity", "id.txt", "--yes")
    assert larder.content() == content


@pytest.mark.parametrize("rows", [FEW])
@pytest.mark.slow  # deriving a key takes a second
def test_passphrase_decrypts_what_the_store_returns(answer, larder, bucket, monkeypatch):  # noqa: F811
    (larder.folder / "passphrase").touch(mode=0o600)
    (larder.folder / "passphrase").write_text("correct horse\n")
    replace_setting(larder.folder, "encrypt", 'encrypt = { passphrase_file = "passphrase" }')
    assert {member["form"] for member in create(answer)["members"]} == {"key", "dump"}
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []


@pytest.mark.slow
def test_server_with_ssh_takes_the_blocks(answer, larder, monkeypatch, tmp_path):
    with start_ssh() as hosts:
        monkeypatch.setenv("PATH", hosts.path)
        hosts.learn_host_keys()
        (tmp_path / "remote").mkdir(mode=0o700)
        replace_setting(larder.folder, "repository", f'repository = "sftp://bastion{tmp_path}/remote"')
        content, backup = larder.content(), create(answer)["id"]
        assert answer("backup", "verify", "--deep")["data"]["findings"] == []
        larder.run("delete from much")
        answer("restore", "apply", backup, "--yes")
    assert larder.content() == content


# Space ----------------------------------------------------------------------------------------------------------


def run_cli(folder, *words, **variables):
    return subprocess.run(
        [sys.executable, "-m", "dbctl", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("rows", [FEW])
@pytest.mark.parametrize(
    "is_encrypted", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "encrypted"]
)
def test_no_temporary_file_is_needed(larder, tmp_path, is_encrypted):
    if is_encrypted:
        recipient = x25519.Identity.generate().to_public()
        replace_setting(larder.folder, "encrypt", f'encrypt = {{ recipients = ["{recipient}"] }}')
    with mount_disk(tmp_path / "disk", "256k") as disk:
        refused = run_cli(larder.folder, "backup", "create", "--no-stream", TMPDIR=str(disk))
        assert (refused.returncode, "free" in refused.stderr) == (Exit.FAILED, True)
        created = run_cli(larder.folder, "backup", "create", TMPDIR=str(disk))
        assert created.returncode == 0, created.stderr
    assert run_cli(larder.folder, "backup", "verify").returncode == 0


# Refusals -------------------------------------------------------------------------------------------------------


def test_database_whose_copy_is_a_file_is_refused(answer, tmp_path, monkeypatch, bucket):  # noqa: F811
    with larder_app.open_pantry("sqlite", tmp_path / "app") as app:
        prepare(app, monkeypatch, bucket)
        assert answer("backup", "create", status=2)["error"]["code"] == "not-supported"
        assert bucket.keys() == []
        create(answer, "--no-stream")


@pytest.mark.parametrize("rows", [FEW])
def test_differences_need_a_local_copy(answer, larder, bucket):  # noqa: F811
    replace_setting(larder.folder, "incremental", "incremental = true")
    assert answer("backup", "create", status=2)["error"]["code"] == "not-supported"
    assert bucket.keys() == []
    create(answer, "--no-stream")


# Failures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(larder, monkeypatch):
    with FaultProxy(storage.port()).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def find_children(program):
    """Return the ids of the child processes that run a program."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, fields = path.read_text().partition("(")[2].rpartition(")")
            if (name, int(fields.split()[1])) == (program, os.getpid()):
                yield int(path.parent.name)


def is_part(request):
    return request.method == "PUT" and "partNumber=" in request.path


@pytest.mark.slow
def test_part_that_fails_once_is_sent_again(answer, larder, proxy):
    failed = set[str]()

    def fail_first(request):
        if not is_part(request) or request.path in failed:
            return None
        failed.add(request.path)
        return error_response(503, "SlowDown")

    proxy.interfere = fail_first
    create(answer)
    assert len(failed) > 2
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []


def test_part_that_is_refused_ends_the_backup(answer, larder, proxy, bucket):  # noqa: F811
    proxy.interfere = lambda request: error_response(403, "AccessDenied") if is_part(request) else None
    assert answer("backup", "create", status=10)["error"]["code"] == "storage-failed"
    assert bucket.keys() == []
    assert b"<Upload>" not in bucket.uploads()
    assert not list(larder.databases())[1:]


@pytest.mark.slow
def test_dump_that_is_larger_than_planned_ends_the_backup(answer, larder, proxy, bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(streaming, "MARGIN", 0)
    monkeypatch.setattr(streaming, "MIN_SIZE", 6 << 20)
    monkeypatch.setattr(connection, "MAX_PARTS", 2)
    error = answer("backup", "create", status=Exit.UNREACHABLE)["error"]
    assert error["code"] == "storage-failed"
    assert "larger than 10,485,760 bytes" in error["message"]
    assert "--no-stream" in error["hint"]
    assert bucket.keys() == []
    assert b"<Upload>" not in bucket.uploads()
    assert not list(larder.databases())[1:]
    answer("backup", "create", "--no-stream")


@pytest.mark.slow
def test_other_content_in_the_store_is_no_backup(answer, larder, proxy, bucket):  # noqa: F811
    def change(request, response):
        if request.method != "GET" or ".dump.gz" not in request.path or len(response.body) < 1000:
            return response
        body = bytearray(response.body)
        body[500] ^= 1
        return type(response)(status=response.status, body=bytes(body), headers=response.headers)

    proxy.change = change
    assert answer("backup", "create", status=None)["error"] is not None
    assert bucket.keys() == []


def test_dump_program_that_is_killed_leaves_nothing(answer, larder, proxy, bucket):  # noqa: F811
    def kill(request):
        if is_part(request):
            for process in find_children("pg_dump"):
                os.kill(process, signal.SIGKILL)

    proxy.interfere = kill
    error = answer("backup", "create", "--limit-rate", "8M", status=None)["error"]
    assert error is not None
    assert bucket.keys() == []
    assert b"<Upload>" not in bucket.uploads()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_backup_counts_only_if_it_is_whole(answer, larder, bucket, number):  # noqa: F811
    first = create(answer)["id"]
    generator = random.Random(number)  # noqa: S311 - no secrets
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-m", "dbctl", "backup", "create", "--limit-rate", "20M"],
            cwd=larder.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(generator.uniform(0.3, 2.5))
        process.send_signal(number)
        is_complete = process.wait(60) == 0
        result = answer("backup", "list")
        names = {item["id"] for item in result["data"]["items"]}
        assert first in names
        # a signal between the last write and the exit ends a process whose backup is whole
        assert len(names) in (1 + is_complete, 2)
        assert answer("backup", "verify", "--deep", *names)["data"]["findings"] == []
        if created := names - {first}:
            answer("backup", "delete", *created, "--yes")
        answer("backup", "prune", "--keep-last", "9", "--yes")
        keys = bucket.keys()
        assert {key.split("/")[1] for key in keys if key.count("/") > 1} == {first}


class FaultyWriter(DirectoryWriter):
    """A folder that gets other blocks than were written, as from a faulty compressor, so that all checksums of the file match."""

    def write(self, name, blocks, size, prove=None):
        return super().write(name, self._change(blocks), size, prove)

    def _change(self, blocks):
        content = b"".join(blocks)
        yield gzip.compress(gzip.decompress(content)[:-1])


def test_content_that_differs_from_the_dump_is_refused(tmp_path):
    for kind, is_refused in ((DirectoryWriter, False), (FaultyWriter, True)):
        folder = BackupWriter(kind(tmp_path), "20260101_000000")
        with suppress(BackupFailedError), folder.stream(kind.__name__, "gzip", 1000, "app/main") as streamed:
            with streamed.begin() as output:
                for number in range(100):
                    output.write(b"%d" % number * 1000)
            member = folder.complete(kind.__name__, "gzip", streamed)
            assert member.plain_bytes == 190_000
            assert not is_refused
            continue
        assert is_refused
