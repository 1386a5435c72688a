"""Backup and restore of an app with a SQLite and a LanceDB database."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import lancedb
import pyrage
import pytest

from dbctl import signals
from dbctl.cli.main import main
from dbctl.errors.backup import RestoreFailedError
from dbctl.errors.base import Exit
from dbctl.errors.connection import BusyError, FileMissingError
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb import swap
from dbctl.files import temp
from dbctl.model import Findings
from dbctl.services.backup import create
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.checks.run import check
from dbctl.services.restore.copy import CopyRestore
from dbctl.services.restore.drill_run import AppDrill
from dbctl.services.restore.preview import preview
from dbctl.url import parse_url
from tests import storage
from tests.engines import lance
from tests.extensions.lancedb import chat_app, opening
from tests.services import promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.restore.test_apply import call_at_progress, stop  # noqa: F401

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path):
    return chat_app.create_app(tmp_path / "app")


def retained_folders(path):
    return [
        entry for entry in swap.list_siblings(chat_app.vector_folder(path)) if not swap.is_prepared(entry)
    ]


# Backup and restore of both databases ------------------------------------------------------------------------------


def test_restore_of_both_databases_preserves_nearest_neighbours(path):
    before, neighbours = chat_app.read_keys(path), chat_app.find_nearest(path)
    backup = promptvault_app.create_app_backup(path)
    assert [(member.database, member.file) for member in backup.members] == [
        ("chat", f"chat_{backup.id}.db.gz"),
        ("vectors", f"lancedb_{backup.id}.tar.gz"),
    ]
    # The snapshot of the last database is opened before the first one is written.
    first, last = backup.members
    first_file = promptvault_app.find_backup_folder(path, backup) / first.file
    assert last.taken_at.timestamp() < first_file.stat().st_mtime
    assert [member.rows for member in backup.members] == [{"messages": 30}, {lance.TABLE: 30}]
    chat_app.add_messages(path, range(100, 120))
    chat_app.delete_message(path, 3)
    after = chat_app.read_keys(path)
    result = promptvault_app.apply_restore(path, backup.id)
    assert [(database.database, database.strategy) for database in result.databases] == [
        ("chat", "in place"),
        ("vectors", "swapped"),
    ]
    assert chat_app.read_keys(path) == before
    assert chat_app.find_nearest(path) == neighbours
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    promptvault_app.undo_restore(path)
    assert chat_app.read_keys(path) == after


def test_safety_backup_without_its_retained_folder_is_reported(path):
    promptvault_app.create_app_backup(path)
    first, second = (
        promptvault_app.apply_restore(path).safety_backup,
        promptvault_app.apply_restore(path).safety_backup,
    )
    items = {backup.id: backup for backup in promptvault_app.list_all_backups(path).page.items}
    assert (items[first].verified_at, items[second].note) == (None, "")
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == ["retained-database-missing"]


def test_safety_backup_with_reused_id_retains_replaced_folder(path, monkeypatch):
    """After the clock is set back, an id may be used again."""
    backup, before = promptvault_app.create_app_backup(path), chat_app.read_keys(path)
    chat_app.add_messages(path, range(100, 120))
    monkeypatch.setattr(create, "now", lambda: backup.created_at + timedelta(hours=1))
    first = promptvault_app.apply_restore(path, backup.id)
    shutil.rmtree(promptvault_app.find_backup_folder(path, first.safety_backup))
    chat_app.add_messages(path, range(200, 210))
    between = chat_app.read_keys(path)
    second = promptvault_app.apply_restore(path, backup.id)
    assert second.safety_backup == first.safety_backup
    assert chat_app.read_keys(path) == before
    promptvault_app.undo_restore(path)
    assert chat_app.read_keys(path) == between


def test_lost_databases_are_restored(path):
    before, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    shutil.rmtree(chat_app.vector_folder(path))
    promptvault_app.delete_database(path)
    result = promptvault_app.apply_restore(path, backup.id)
    assert [database.strategy for database in result.databases] == ["new", "new"]
    assert chat_app.read_keys(path) == before


def move_into_data_dir(path):
    """Move both databases into a folder ``data``; return the path of the SQLite file."""
    data = path.with_name("data")
    data.mkdir(mode=0o750)
    config = path.with_name("dbctl.toml")
    for name in ("chat.db", "lancedb"):
        path.with_name(name).rename(data / name)
        config.write_text(config.read_text().replace(f'"{name}"', f'"data/{name}"'))
    return data / "chat.db"


def test_lost_data_directory_is_created_as_planned(path):
    database = move_into_data_dir(path)
    path.parent.chmod(0o751)
    before, backup = chat_app.read_keys(database), promptvault_app.create_app_backup(path)
    shutil.rmtree(database.parent)
    with promptvault_app.open_repository(path) as (_app, repository):
        steps = promptvault_app.create_restore(repository, backup.id).plan().steps
    assert [step for step in steps if step.startswith("create the directory")] == [
        f"create the directory {database.parent}, which is missing"
    ]
    promptvault_app.apply_restore(path, backup.id)
    assert chat_app.read_keys(database) == before
    assert database.parent.stat().st_mode & 0o777 == 0o751


def test_missing_parent_of_data_directory_is_not_created(path):
    """The parent may be an unmounted disk."""
    database = move_into_data_dir(path)
    backup, config = promptvault_app.create_app_backup(path), path.with_name("dbctl.toml")
    shutil.rmtree(database.parent)
    config.write_text(config.read_text().replace("data/", "disk/data/"))
    error = catch_error(FileMissingError, lambda: promptvault_app.apply_restore(path, backup.id))
    assert error.context["path"] == path.with_name("disk")
    assert not path.with_name("disk").exists()


def test_leftovers_of_killed_restore_are_reported_unless_in_use(path, capsys):
    def list_leftovers():
        main(["--config", str(path.with_name("dbctl.toml")), "doctor", "-o", "json"])
        findings = json.loads(capsys.readouterr().out)["data"]["findings"]
        return [
            (finding["target"], finding["hint"])
            for finding in findings
            if finding["code"] == "leftover-files"
        ]

    vectors = chat_app.vector_folder(path)
    with temp.folder(vectors.parent, swap.temp_prefix(vectors)) as temp_folder:
        assert list_leftovers() == []
    temp_folder.mkdir()
    (temp_folder / "data").write_bytes(b"x")
    partial = swap.sibling_path(vectors, f"{swap.RETAINED}20260101_000000{swap.PARTIAL}")
    partial.mkdir()
    assert list_leftovers() == [("talk/vectors", f"rm -r {partial} {temp_folder}")]


def test_damaged_folder_is_retained_and_replaced(path):
    before, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    for entry in chat_app.vector_folder(path).rglob("*.manifest"):
        entry.write_bytes(b"none")
    promptvault_app.apply_restore(path, backup.id)
    assert chat_app.read_keys(path) == before
    (retained,) = retained_folders(path)
    assert next(retained.rglob("*.manifest")).read_bytes() == b"none"


def test_each_database_is_restored_alone(path):
    before, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    chat_app.add_messages(path, range(100, 110))
    after = chat_app.read_keys(path)
    promptvault_app.apply_restore(path, backup.id, only="vectors")
    assert chat_app.read_keys(path) == (after[0], before[1])
    promptvault_app.undo_restore(path)
    assert chat_app.read_keys(path) == after
    promptvault_app.apply_restore(path, backup.id, only="chat")
    assert chat_app.read_keys(path) == (before[0], after[1])


def test_failed_check_of_vectors_replaces_nothing(path):
    backup = promptvault_app.create_app_backup(path)
    chat_app.add_messages(path, range(100, 110))
    after = chat_app.read_keys(path)
    with promptvault_app.open_repository(path) as (_app, repository):
        operation = promptvault_app.create_restore(repository, backup.id)
        vectors = operation._members[1]
        digests = dict.fromkeys(vectors.digests, "0" * 64)
        operation._members[1] = vectors.__class__(
            **{
                name: digests if name == "digests" else getattr(vectors, name)
                for name in vectors.__struct_fields__
            }
        )
        catch_error(RestoreFailedError, operation.apply)
    assert chat_app.read_keys(path) == after
    assert not list(swap.list_siblings(chat_app.vector_folder(path)))
    assert [backup.kind for backup in promptvault_app.list_all_backups(path).page.items] == ["backup"]


def test_interrupted_restore_of_the_other_database_leaves_no_prepared_folder(path, stop):  # noqa: F811
    promptvault_app.create_app_backup(path)
    chat_app.add_messages(path, range(100, 110))
    changed, steps = chat_app.read_keys(path), list[int]()
    promptvault_app.apply_restore(path, advance=steps.append)
    promptvault_app.undo_restore(path)
    before = list(swap.list_siblings(chat_app.vector_folder(path)))
    with suppress(signals.Interrupted):
        promptvault_app.apply_restore(path, advance=call_at_progress(len(steps) - 1, stop))
    signals._received.clear()
    assert chat_app.read_keys(path) == changed
    assert list(swap.list_siblings(chat_app.vector_folder(path))) == before


@pytest.mark.parametrize("engine", ["", "lancedb:"])
def test_copy_to_path_uses_engine_of_database(path, tmp_path, engine):
    before, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    to = {
        "chat": parse_url(str(tmp_path / "other.db")),
        "vectors": parse_url(f"{engine}{tmp_path / 'other'}"),
    }
    with promptvault_app.open_repository(path) as (_app, repository):
        result = CopyRestore(promptvault_app.open_source(repository, backup.id), to).apply()
    table = lancedb.connect(tmp_path / "other").open_table(lance.TABLE)
    assert sorted(table.search().to_arrow().column("message_id").to_pylist()) == before[1]
    assert f"vectors=lancedb:{tmp_path / 'other'}" in result.command
    assert chat_app.read_keys(path) == before


def test_preview_counts_live_and_backup_rows_of_both_databases(path):
    backup = promptvault_app.create_app_backup(path)
    chat_app.add_messages(path, range(100, 110))
    with promptvault_app.open_repository(path) as (_app, repository):
        comparison = preview(promptvault_app.open_source(repository, backup.id), deep=True)
    counts = {
        (database.database, table.table): (table.current_rows, table.backup_rows)
        for database in comparison.databases
        for table in database.tables
    }
    assert counts == {("chat", "messages"): (40, 30), ("vectors", lance.TABLE): (40, 30)}
    assert [(database.strategy, database.schema) for database in comparison.databases] == [
        ("in place", "same"),
        ("swapped", "same"),
    ]


def test_preview_of_equal_data_suggests_no_deep_comparison(path):
    backup = promptvault_app.create_app_backup(path)
    with promptvault_app.open_repository(path) as (_app, repository):
        rows = preview(promptvault_app.open_source(repository, backup.id)).summary()
    assert not [row for row in rows if "settings" in row]


def test_plan_for_missing_folder_contains_no_swap(path):
    backup = promptvault_app.create_app_backup(path)
    shutil.rmtree(chat_app.vector_folder(path))
    with promptvault_app.open_repository(path) as (_app, repository):
        steps = promptvault_app.create_restore(repository, backup.id).plan().steps
    assert f"extract it next to {chat_app.vector_folder(path)}, read it completely, and rename it" in steps


# Verification ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["zstd", "none"])
def test_backup_of_both_is_verified_drilled_and_compared(path, compress):
    backup = promptvault_app.create_app_backup(path, compress=compress)
    with promptvault_app.open_repository(path) as (app, repository):
        keys = promptvault_app.create_keys(app)
        drill = AppDrill(repository, keys).drill()
        assert [(database.database, database.passed, database.rows) for database in drill.databases] == [
            ("chat", True, 30),
            ("vectors", True, 30),
        ]
        assert drill.databases[1].digests == 1
        verification = VerifyBackups(repository, [backup.id], deep=True, keys=keys, live=True).run()
    assert verification.status == Exit.OK
    assert not list(swap.list_siblings(chat_app.vector_folder(path)))


def test_encrypted_backup_of_both_is_restored(tmp_path):
    identity = pyrage.x25519.Identity.generate()
    key = tmp_path / "key.txt"
    key.write_text(f"{identity}\n")
    key.chmod(0o600)
    settings = f'encrypt = {{ recipients = ["{identity.to_public()}"], identity_file = "{key}" }}'
    path = chat_app.create_app(tmp_path / "app", extra=settings)
    backup = promptvault_app.create_app_backup(path)
    assert [Path(member.file).suffix for member in backup.members] == [".age", ".age"]
    assert [member.digests for member in backup.members] == [{}, {}]
    chat_app.add_messages(path, range(100, 110))
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    promptvault_app.apply_restore(path, backup.id)
    assert chat_app.read_keys(path) == chat_app.expected_keys(range(30))


@pytest.mark.slow
def test_remote_backups_of_both_are_restored_and_drilled(path, tmp_path, monkeypatch):
    (tmp_path / "staging").mkdir(mode=0o700)
    bucket = storage.use_new_bucket(monkeypatch, tmp_path / "staging")
    file = path.with_name("dbctl.toml")
    file.write_text(
        file.read_text().replace('repository = "backups"', f'repository = "s3://{bucket.name}/off"')
    )
    backup = promptvault_app.create_app_backup(path)
    chat_app.add_messages(path, range(100, 110))
    after = chat_app.read_keys(path)
    with promptvault_app.open_repository(path) as (app, repository):
        drill = AppDrill(repository, promptvault_app.create_keys(app)).drill()
    assert [database.passed for database in drill.databases] == [True, True]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    promptvault_app.apply_restore(path, backup.id)
    assert chat_app.read_keys(path) == chat_app.expected_keys(range(30))
    promptvault_app.undo_restore(path)
    assert chat_app.read_keys(path) == after


# Without the lancedb package ---------------------------------------------------------------------------------------

#: Run dbctl without the packages that read LanceDB tables.
RUN_WITHOUT_LANCEDB = """
import sys
for name in ("lancedb", "pyarrow"):
    sys.modules[name] = None
from dbctl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_lancedb(path, *args):
    result = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT_LANCEDB, *args],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(path.parent)},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_files_are_backed_up_without_the_lancedb_package(path):
    before = chat_app.read_keys(path)
    assert "not installed" in run_without_lancedb(path, "backup", "create")
    (backup,) = promptvault_app.list_all_backups(path).page.items
    with promptvault_app.open_repository(path) as (_, repository):
        member = repository.find(backup.id).members[1]
    assert (member.rows, member.digests, member.schema) == ({lance.TABLE: 30}, {}, "")
    assert "not installed" in member.facts["remarks"]
    # The verification runs with the lancedb package, which reads the vectors completely.
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    chat_app.add_messages(path, range(100, 110))
    run_without_lancedb(path, "restore", "apply", backup.id, "--yes")
    assert chat_app.read_keys(path) == before


def test_remote_vectors_are_omitted_with_remark(path):
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace('"lancedb"', '"s3://bucket/vectors"'))
    backup = promptvault_app.create_app_backup(path)
    assert [member.database for member in backup.members] == ["chat"]
    (omitted,) = backup.left_out
    assert (omitted.database, "storage" in omitted.reason) == ("vectors", True)
    assert any("vectors is not in the backup" in remark for remark in backup.remarks)
    with promptvault_app.open_repository(path, only="vectors") as (_app, repository):
        catch_error(NotSupportedError, lambda: CreateBackup(repository).apply())


def test_restore_waits_for_lock_of_vector_folder(path):
    backup = promptvault_app.create_app_backup(path)
    with (
        promptvault_app.open_repository(path) as (app, repository),
        opening.open_writer(chat_app.vector_folder(path)).lock("a test"),
    ):
        app.timeout = 0.1
        catch_error(BusyError, promptvault_app.create_restore(repository, backup.id).apply)
        assert isinstance(check(app).findings, Findings)


# Complete cycle ----------------------------------------------------------------------------------------------------

#: Update rows without changing them, compact the table, and remove all versions except the newest.
VECTOR_WRITER = """
import datetime, sys, warnings
import lancedb
warnings.simplefilter("ignore")
table = lancedb.connect(sys.argv[1]).open_table("chat_embeddings")
names = table.search().select(["message_id"]).limit(1000).to_arrow().column("message_id").to_pylist()
print(flush=True)
for turn in range(10**9):
    name = names[turn % len(names)]
    table.update(f"message_id = '{name}'", {"message_id": name})
    if turn % 5 == 0:
        table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
"""
CHAT_WRITER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print(flush=True)
while True:
    c.execute("update users set last_active = datetime('now')")
"""


@contextmanager
def run_writer(code, database):
    command = [sys.executable, "-c", code, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            writer.stdout.readline()
            yield
            assert writer.poll() is None
        finally:
            writer.kill()


@pytest.mark.slow
def test_sample_backed_up_under_writers_is_restored_exactly(tmp_path, capsys):
    app, config = tmp_path / "app", ["--config", str(tmp_path / "app" / "dbctl.toml")]
    chat, vectors = app / "data" / "chat.db", app / "data" / "lancedb"

    def run_json(*words):
        assert main([*words, *config, "-o", "json"]) == 0
        return json.loads(capsys.readouterr().out)["data"]

    def find_neighbours():
        """Return the ten nearest neighbours of 100 random vectors; ties with the eleventh are excluded."""
        table, results = lancedb.connect(vectors).open_table("chat_embeddings"), []
        for seed in range(100):
            rng = random.Random(seed)  # noqa: S311
            matches = table.search([rng.gauss(0, 1) for _ in range(768)]).limit(11).to_list()
            limit = max(match["_distance"] for match in matches)
            results.append(
                sorted(
                    (match["_distance"], match["message_id"])
                    for match in matches
                    if match["_distance"] < limit
                )
            )
        return results

    assert main(["demo", "chat-lancedb", str(app), "--messages", "150", "--quiet"]) == 0
    capsys.readouterr()
    before = find_neighbours()
    with run_writer(VECTOR_WRITER, vectors), run_writer(CHAT_WRITER, chat):
        backup = run_json("backup", "create")
    assert timedelta(seconds=backup["taken_within"]) < timedelta(seconds=1)
    promptvault_app.delete_database(chat)
    shutil.rmtree(vectors)
    run_json("restore", "apply", backup["id"], "--yes")
    assert run_json("integrity", "cross-check")["findings"] == []
    assert find_neighbours() == before


# Differences -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_differences_of_both_are_restored(path, tmp_path, monkeypatch, compress):
    """A database with a small difference refers to its base, and one with a large difference is stored in full."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f'incremental = true\ncompress = "{compress}"\n')
    chat_app.add_messages(path, range(200, 1700))
    base = promptvault_app.create_app_backup(path)
    chat_app.delete_message(path, 3)
    before, neighbours = chat_app.read_keys(path), chat_app.find_nearest(path)
    backup = promptvault_app.create_app_backup(path)
    assert {member.compress for member in (*base.members, *backup.members)} == {compress}
    assert {member.delta.backup for member in backup.members if member.delta} <= {base.id}
    assert [member.delta is None for member in base.members] == [True, True]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    chat_app.add_messages(path, range(100, 120))
    promptvault_app.apply_restore(path, backup.id)
    assert (chat_app.read_keys(path), chat_app.find_nearest(path)) == (before, neighbours)
    assert any(member.delta for member in backup.members)
