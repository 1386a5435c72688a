"""LanceDB tables on servers with the S3 protocol, and backups of local tables there."""

from __future__ import annotations

import threading

import pytest

from dbctl.engines.contract.database import Condition
from dbctl.errors.connection import ConcurrentChangeError
from dbctl.services.restore.drill_run import AppDrill
from tests import storage
from tests.engines import lance
from tests.engines.lance import TABLE
from tests.extensions.lancedb import chat_app, opening
from tests.services import promptvault_app
from tests.storage_servers import CEPH, SEAWEEDFS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("server", [SEAWEEDFS, CEPH], ids=lambda server: server.name),
]


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    (tmp_path / "staging").mkdir(mode=0o700)
    return server.use_new_bucket(monkeypatch, tmp_path / "staging")


def create_table(server, url):
    options = {"endpoint": server.endpoint, "region": "us-east-1", "allow_http": "true"}
    keys = {"access_key_id": storage.KEY, "secret_access_key": storage.SECRET}
    lance.create_table(url, options=options | keys)


def test_table_is_read_searched_written_and_measured(server, bucket):
    url = f"s3://{bucket.name}/app/lancedb"
    create_table(server, url)
    writer = opening.open_writer(url)
    with writer.lock("x"), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
    reader = opening.open_reader(url)
    assert reader.count(TABLE) == 10
    search = reader.vectors
    (row,) = search.find_nearest(TABLE, lance.create_vector(7), ["message_id"], column="vector", limit=1)
    assert row[0] == "msg-00007"
    (size,) = reader.storage.measure_tables()
    assert size.bytes == sum(len(bucket.get(key)) for key in bucket.keys("app/lancedb"))
    assert reader.checks.find_damage() == []
    file = bucket.keys(f"app/lancedb/{TABLE}.lance/data")[0]
    bucket.put(file, bucket.get(file)[:-20])
    (line,) = opening.open_reader(url).checks.find_damage(quick=True)
    assert "instead of" in line


def test_concurrent_writers_lose_no_deletion(server, bucket):
    url = f"s3://{bucket.name}/lancedb"
    create_table(server, url)
    ids = [f"msg-{number:05}" for number in range(4)]
    conflicts, barrier = list[str](), threading.Barrier(len(ids))

    def delete(message_id: str) -> None:
        writer = opening.open_writer(url)
        barrier.wait()
        try:
            with writer.transaction():
                writer.delete(TABLE, [Condition("message_id", "=", message_id)])
        except ConcurrentChangeError:
            conflicts.append(message_id)

    threads = [threading.Thread(target=delete, args=[message_id]) for message_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opening.open_reader(url).count(TABLE) == 20 - len(ids) + len(conflicts)
    assert len(conflicts) < len(ids)


def test_backups_of_tables_are_stored_restored_and_drilled(server, bucket, tmp_path):
    path = chat_app.create_app(tmp_path / "app")
    file = path.with_name("dbctl.toml")
    file.write_text(
        file.read_text().replace('repository = "backups"', f'repository = "s3://{bucket.name}/off"')
    )
    backup = promptvault_app.create_app_backup(path)
    chat_app.add_messages(path, range(100, 110))
    with promptvault_app.open_repository(path) as (app, repository):
        drill = AppDrill(repository, promptvault_app.create_keys(app)).drill()
    assert [database.passed for database in drill.databases] == [True, True]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    promptvault_app.apply_restore(path, backup.id)
    assert chat_app.read_keys(path) == chat_app.expected_keys(range(30))
