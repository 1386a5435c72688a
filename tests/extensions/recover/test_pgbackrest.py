"""Recover a moment from a repository of pgBackRest, whose own program restores the copy and fetches the log."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests import servers
from tests.extensions.recover.primary import Primary, find_leftovers, read_sales, write_time

pytestmark = pytest.mark.slow

CONFIGURATION = """\
[global]
repo1-path={folder}/repository
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=only-a-test
repo1-retention-full=9
log-path={folder}
lock-path={folder}
start-fast=y
[shop]
pg1-path={folder}/data
pg1-socket-path={folder}
"""


@pytest.fixture(scope="module")
def killed():
    """Return a killed server with a full and an incremental copy in an encrypted repository, and sales after each."""
    if shutil.which("pgbackrest") is None:
        servers.skip_or_fail("no pgbackrest")
    command = "pgbackrest --config=$(dirname $PWD)/pgbackrest.conf --stanza=shop archive-push %p"
    with servers.archiving_postgresql(f"archive_command={command}") as server:
        primary = Primary(server)
        configuration = server.folder / "pgbackrest.conf"
        configuration.write_text(CONFIGURATION.format(folder=server.folder))
        run_pgbackrest(server.folder, "stanza-create")
        for kind in ("full", "incr"):
            run_pgbackrest(server.folder, f"--type={kind}", "backup")
            time.sleep(2)  # the end of a copy is a whole second
            primary.sell(3)
        primary.delete("id = 1")
        primary.sell(1)
        ((name,),) = primary.execute("select pg_walfile_name(pg_switch_wal())")
        while name not in run_pgbackrest(server.folder, "info"):
            time.sleep(0.1)
        primary.close()
        yield primary


def run_pgbackrest(folder: Path, *words: str) -> str:
    owner = (folder / "data").stat()
    as_user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.run(
        ["pgbackrest", f"--config={folder}/pgbackrest.conf", "--stanza=shop", *words],
        cwd=folder,
        capture_output=True,
        check=True,
        text=True,
        **as_user,
    )
    return process.stdout


@pytest.fixture
def shop(killed, tmp_path, monkeypatch):
    """Return the server, in the folder of an app."""
    killed.configure(tmp_path, pgbackrest="shop", pgbackrest_config=killed.folder / "pgbackrest.conf")
    monkeypatch.chdir(tmp_path)
    return killed


def test_moments_after_full_and_incremental_copies_are_recovered(shop, answer):
    deleted = next(sale.deleted for sale in shop.sales if sale.deleted)
    moments = [
        shop.sales[1].inserted,
        shop.sales[4].inserted,
        deleted,
        shop.sales[-1].inserted + timedelta(microseconds=1),
    ]
    bases = []
    for at in moments:
        plan = answer("backup", "recover", "--at", write_time(at), "--dry-run")["data"]["plan"]
        backup = answer("backup", "recover", "--at", write_time(at))["data"]
        (member,) = backup["members"]
        assert read_sales(Path(backup["path"], member["file"])) == shop.list_sales(at)
        bases.append(member["facts"]["recovered_base"])
        assert bases[-1] in plan["steps"][0]
        assert find_leftovers() == []
    assert bases[0].endswith("F")
    assert all(base.endswith("I") for base in bases[1:])


def test_moments_outside_of_the_repository_are_refused(shop, answer):
    for at in (shop.sales[0].inserted - timedelta(hours=1), shop.sales[-1].inserted + timedelta(seconds=1)):
        error = answer("backup", "recover", "--at", write_time(at), status=5)["error"]
        assert error["code"] == "recovery-time"
        answer("backup", "recover", "--at", error["hint"].rpartition("--at ")[2])
        assert find_leftovers() == []


def test_unknown_stanza_and_missing_program_are_errors(shop, answer, tmp_path, monkeypatch):
    at = write_time(shop.sales[1].inserted)
    shop.configure(tmp_path, pgbackrest="other", pgbackrest_config=shop.folder / "pgbackrest.conf")
    assert answer("backup", "recover", "--at", at, status=5)["error"]["code"] == "recovery-missing"
    shop.configure(tmp_path, pgbackrest="shop", pgbackrest_config=tmp_path / "missing.conf")
    assert answer("backup", "recover", "--at", at, status=1)["error"]["code"] == "client-failed"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert answer("backup", "recover", "--at", at, status=10)["error"]["code"] == "client-missing"
    shop.configure(tmp_path, pgbackrest="shop", log="log")
    assert answer("backup", "recover", "--at", at, status=2)["error"]["code"] == "config-invalid"


@pytest.fixture
def lost(tmp_path, monkeypatch):
    """Return a function that yields a server whose folder is lost after a backup and two sales."""

    @contextmanager
    def run(*statements):
        if shutil.which("pgbackrest") is None:
            servers.skip_or_fail("no pgbackrest")
        command = "pgbackrest --config=$(dirname $PWD)/pgbackrest.conf --stanza=shop archive-push %p"
        with servers.archiving_postgresql(f"archive_command={command}") as server:
            primary = Primary(server)
            configuration = server.folder / "pgbackrest.conf"
            configuration.write_text(CONFIGURATION.format(folder=server.folder))
            run_pgbackrest(server.folder, "stanza-create")
            owner = (server.folder / "data").stat()
            (server.folder / "extra").mkdir()
            os.chown(server.folder / "extra", owner.st_uid, owner.st_gid)
            for statement in statements:
                primary.execute(statement.format(folder=server.folder))
            run_pgbackrest(server.folder, "--type=full", "backup")
            time.sleep(2)  # the end of a copy is a whole second
            primary.sell(2)
            ((name,),) = primary.execute("select pg_walfile_name(pg_switch_wal())")
            while name not in run_pgbackrest(server.folder, "info"):
                time.sleep(0.1)
            primary.end()
            for name in ("data", "extra"):
                shutil.rmtree(server.folder / name)
            with configuration.open("a") as file:
                file.write(f"[global:archive-get]\nspool-path={server.folder}/spool\narchive-async=y\n")
            primary.configure(tmp_path, pgbackrest="shop", pgbackrest_config=configuration)
            monkeypatch.chdir(tmp_path)
            yield primary

    return run


def test_moment_is_recovered_without_the_files_of_the_server(lost, answer):
    with lost() as primary:
        at = primary.sales[1].inserted
        backup = answer("backup", "recover", "--at", write_time(at))["data"]
        (member,) = backup["members"]
        assert read_sales(Path(backup["path"], member["file"])) == primary.list_sales(at) == [1]
        assert not (primary.folder / "spool").exists()
        assert find_leftovers() == []


def test_tablespace_is_restored_into_the_private_folder_only(lost, answer):
    """Its own folder may be that of a live server on this machine."""
    with lost(
        "create tablespace extra location '{folder}/extra'", "create table t tablespace extra as select 1"
    ) as primary:
        at = primary.sales[1].inserted
        error = answer("backup", "recover", "--at", write_time(at), status=6)["error"]
        assert (error["code"], "tablespace" in error["message"]) == ("recovery-refused", True)
        assert not (primary.folder / "extra").exists()
        assert find_leftovers() == []
