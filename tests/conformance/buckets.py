"""Tests for every store in object storage, inherited by a class with the fixture ``place``."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from dbctl.config.storage import parse_address
from dbctl.errors.backup import RepositoryFailedError, StorageFailedError
from dbctl.errors.base import Exit
from dbctl.errors.connection import BusyError
from dbctl.stores.base import FolderState, Store
from dbctl.stores.objects import client
from dbctl.stores.registry import open_store
from dbctl.stores.remote import contract
from tests import storage
from tests.conformance.stores import (
    FIRST_FOLDER,
    LARGE_SIZE,
    SECOND_FOLDER,
    StoreContract,
    StoreLocation,
    create_backup,
)

#: Concurrent writers of one object.
WRITERS = 8


class BucketLocation(StoreLocation):
    """``deep/er`` in a separate bucket."""

    def __init__(self, bucket: storage.Bucket, scheme: str = "s3", *, timeout: float = 2) -> None:
        self.bucket, self.address = bucket, f"{scheme}://{bucket.name}/deep/er"
        self._timeout = timeout

    def open(self, app: str = "app") -> Store:
        return open_store(self.address, app, folder=Path("/nonexistent"), timeout=self._timeout)

    def connect(self) -> client.Client:
        """Return a client for the objects of the bucket."""
        return client.Client(self.address, parse_address(self.address), timeout=self._timeout)

    def put(self, folder: str, name: str, content: bytes) -> None:
        self.bucket.put(f"deep/er/app/{folder}/{name}", content)

    def delete(self, folder: str, name: str) -> None:
        self.bucket.delete(f"deep/er/app/{folder}/{name}")

    def list_names(self, folder: str) -> set[str]:
        prefix = f"deep/er/app/{folder}"
        return {key.removeprefix(f"{prefix}/") for key in self.bucket.keys(prefix)}


def count_winners(attempt: Callable[[bytes], object]) -> int:
    """Return how many of several concurrent attempts with different content succeed; the others meet a conflict."""
    barrier = threading.Barrier(WRITERS)

    def run(_number: int) -> bool:
        barrier.wait()
        try:
            attempt(os.urandom(16))
        except client.ConflictError:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        return sum(pool.map(run, range(WRITERS)))


def leave_lock_of_killed_process(place, open_from_other_machine):
    """Leave the lock object of a killed dbctl process on another machine."""
    holder = open_from_other_machine().lock("backup create", timeout=0)
    holder.__enter__()
    lock_object = place.bucket.get("deep/er/app/.dbctl-lock")
    holder.__exit__(None, None, None)
    place.bucket.put("deep/er/app/.dbctl-lock", lock_object)


class BucketContract(StoreContract):
    # Conditions of writes ------------------------------------------------------------------------------------------

    def test_object_is_created_once(self, place):
        connection = place.connect()
        tag = connection.create("a", b"first")
        assert connection.create("a", b"first") == tag  # as after a lost response
        with pytest.raises(client.ConflictError):
            connection.create("a", b"second")
        assert connection.get("a")[1] == b"first"

    def test_object_is_exchanged_only_if_unchanged(self, place):
        connection = place.connect()
        first = connection.create("a", b"first")
        second = connection.exchange("a", b"second", first)
        with pytest.raises(client.ConflictError):
            connection.exchange("a", b"third", first)
        with pytest.raises(client.ConflictError):
            connection.exchange("missing", b"third", first)
        assert connection.get("a")[1] == b"second"
        assert connection.exchange("a", b"third", connection.get("a")[0].tag) != second

    def test_concurrent_writers_have_one_winner(self, place):
        connection = place.connect()
        assert count_winners(lambda content: connection.create("a", content)) == 1
        tag = connection.get("a")[0].tag
        assert count_winners(lambda content: connection.exchange("a", content, tag)) == 1

    def test_conditions_are_not_ignored(self, place):
        connection = place.connect()
        connection.create("a", b"first")
        assert connection.find_ignored_condition("a", b"second") == ""
        assert connection.get("a")[1] == b"first"

    # Objects -------------------------------------------------------------------------------------------------------

    def test_range_of_object_is_read(self, place):
        place.bucket.put("a", b"0123456789")
        place.bucket.put("empty", b"")
        connection = place.connect()
        assert connection.get("a", start=2, end=5)[1] == b"234"
        assert connection.get("a", end=100)[1] == b"0123456789"
        assert connection.get("empty", end=100)[1] == b""

    def test_deleting_missing_object_succeeds(self, place):
        place.bucket.put("a", b"1")
        place.connect().delete(["missing", "a", "a"])
        assert place.bucket.keys() == []

    def test_object_deleted_while_reading_is_reported(self, place):
        create_backup(place.open(), a=b"1" * LARGE_SIZE)
        reading = place.open().read(FIRST_FOLDER, "a")
        next(reading)
        place.delete(FIRST_FOLDER, "a")
        with pytest.raises(RepositoryFailedError, match="deleted"):
            list(reading)

    @pytest.mark.slow
    def test_listing_has_several_pages(self, place):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: place.put(f"{number:04}", "manifest.json", b"{}"), range(1005)))
        assert len(place.open().list_folders()) == 1005

    def test_missing_bucket_is_reported(self, place):
        address = place.address.replace(place.bucket.name, "t-no-such-bucket")
        store = open_store(address, "app", folder=Path("/nonexistent"), timeout=2)
        for action in (store.list_folders, lambda: create_backup(store)):
            with pytest.raises(StorageFailedError, match="not found: 't-no-such-bucket'") as caught:
                action()
            assert caught.value.exit_status == Exit.UNREACHABLE

    def test_other_objects_are_ignored(self, place):
        place.bucket.put("deep/er/app/", b"")  # a folder as created by web consoles
        place.bucket.put("deep/er/app/notes.txt", b"x")
        place.bucket.put("deep/er/apple/20260101_000000/manifest.json", b"x")
        place.bucket.put("deep/erratic", b"x")
        create_backup(place.open(), a=b"1")
        assert place.open().list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}

    def test_object_replaced_while_reading_is_detected(self, place):
        create_backup(place.open(), a=b"1" * LARGE_SIZE)
        reading = place.open().read(FIRST_FOLDER, "a")
        next(reading)
        place.put(FIRST_FOLDER, "a", b"2" * LARGE_SIZE)
        with pytest.raises(RepositoryFailedError, match="replaced"):
            list(reading)

    def test_verification_without_manifest_is_incomplete(self, place):
        place.put(FIRST_FOLDER, "verified.json", b"{}")
        assert place.open().list_folders() == {FIRST_FOLDER: FolderState.INCOMPLETE}

    @pytest.fixture
    def open_from_other_machine(self, place, monkeypatch, tmp_path):
        """Return a function that opens the store as another machine does."""
        (tmp_path / "elsewhere").mkdir()

        def open_from_new_machine():
            monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
            store = place.open()
            monkeypatch.setenv("TMPDIR", str(tmp_path))
            return store

        return open_from_new_machine

    def test_other_machine_waits_for_lock(self, place, open_from_other_machine):
        with (
            place.open().lock("backup create", timeout=0),
            pytest.raises(BusyError, match="by dbctl backup create"),
            open_from_other_machine().lock("prune", timeout=0),
        ):
            pass
        with open_from_other_machine().lock("prune", timeout=0):
            pass
        assert place.bucket.keys() == []

    def test_lock_of_killed_local_process_is_taken_over(self, place, open_from_other_machine):
        leave_lock_of_killed_process(place, open_from_other_machine)
        with pytest.raises(BusyError), place.open().lock("prune", timeout=0):
            pass
        with open_from_other_machine().lock("prune", timeout=0):  # the machine of the killed process
            pass

    def test_expired_lock_of_other_machine_is_taken_over(self, place, open_from_other_machine, monkeypatch):
        leave_lock_of_killed_process(place, open_from_other_machine)
        expiry = contract.now() + timedelta(seconds=contract.EXPIRY_SECONDS + 1)
        monkeypatch.setattr(contract, "now", lambda: expiry)
        with place.open().lock("prune", timeout=0):
            assert json.loads(place.bucket.get("deep/er/app/.dbctl-lock"))["command"] == "prune"

    def test_lock_is_renewed(self, place, monkeypatch):
        monkeypatch.setattr(contract, "RENEW_SECONDS", 0.05)
        with place.open().lock("backup create", timeout=0):
            first = place.bucket.get("deep/er/app/.dbctl-lock")
            deadline = time.monotonic() + 20
            while place.bucket.get("deep/er/app/.dbctl-lock") == first:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def test_lost_lock_prevents_backup(self, place):
        store = place.open()
        with pytest.raises(BusyError), store.lock("backup create", timeout=0):
            place.bucket.put("deep/er/app/.dbctl-lock", b'{"token": "of another dbctl"}')
            create_backup(store, a=b"1")
        assert place.bucket.keys() == ["deep/er/app/.dbctl-lock"]  # the lock of the other process

    def test_lost_lock_prevents_deletion(self, place):
        store = place.open()
        create_backup(store, a=b"1")
        with pytest.raises(BusyError), store.lock("prune", timeout=0):
            place.bucket.put("deep/er/app/.dbctl-lock", b'{"token": "of another dbctl"}')
            store.remove_folder(FIRST_FOLDER)
        assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
        assert ".dbctl-incomplete" not in place.list_names(FIRST_FOLDER)

    def test_expired_lock_is_not_held(self, place, open_from_other_machine, monkeypatch):
        leave_lock_of_killed_process(place, open_from_other_machine)
        assert place.open().is_locked()
        expiry = contract.now() + timedelta(seconds=contract.EXPIRY_SECONDS + 1)
        monkeypatch.setattr(contract, "now", lambda: expiry)
        assert not place.open().is_locked()

    def test_unreadable_lock_is_respected(self, place):
        for text in (b"", b"{", b"[]", b"null", b"\xff", b'{"machine": 1}', b"[" * 100_000):
            place.bucket.put("deep/er/app/.dbctl-lock", text)
            with pytest.raises(BusyError, match="by another dbctl"), place.open().lock("prune", timeout=0):
                pass

    def test_leftover_mark_of_complete_folder_is_deleted(self, place):
        store = place.open()
        create_backup(store, a=b"1")
        place.put(FIRST_FOLDER, ".dbctl-incomplete", b"")
        assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
        create_backup(store, SECOND_FOLDER, a=b"1")
        assert ".dbctl-incomplete" not in place.list_names(FIRST_FOLDER)
