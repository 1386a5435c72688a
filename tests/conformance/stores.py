"""Tests for every store, inherited by a class with the fixture ``place``."""

from __future__ import annotations

import os
import stat
import threading
from abc import ABC, abstractmethod

import pytest

from dbctl.errors.backup import RepositoryFailedError
from dbctl.errors.connection import BusyError, InsufficientSpaceError
from dbctl.files.atomic import hash_blocks
from dbctl.stores.base import FolderState, Store, folders_in_state

FIRST_FOLDER, SECOND_FOLDER = "20260101_000000", "20260101_000001"
#: Larger than one part of an upload, and not a multiple of it.
LARGE_SIZE = (9 << 20) + 17


class StoreLocation(ABC):
    """Location of a store; ``open`` returns a new object for the store, as in another process."""

    @abstractmethod
    def open(self, app: str = "app") -> Store: ...

    @abstractmethod
    def put(self, folder: str, name: str, content: bytes) -> None:
        """Write a file without dbctl."""

    @abstractmethod
    def delete(self, folder: str, name: str) -> None:
        """Delete a file without dbctl."""

    @abstractmethod
    def list_names(self, folder: str) -> set[str]:
        """Return the names of all files in a folder."""


def create_backup(store: Store, folder: str = FIRST_FOLDER, manifest: str = "{}", **files: bytes) -> None:
    with store.create_folder(folder) as writer:
        for name, content in files.items():
            writer.local_path(name).write_bytes(content)
            assert writer.store(name) == hash_blocks([content])
        writer.write_manifest(manifest)


class StoreContract:
    @pytest.fixture
    def store(self, place: StoreLocation) -> Store:
        return place.open()

    # Writing ------------------------------------------------------------------------------------------------------

    def test_empty_store_has_no_folders(self, store):
        assert store.list_folders() == {}
        assert store.read_manifest(FIRST_FOLDER) is None
        assert store.read_verification(FIRST_FOLDER) is None
        assert store.list_files(FIRST_FOLDER) == {}

    def test_rewritten_folder_has_the_new_files_and_manifest(self, place, store):
        create_backup(store, old=b"old", same=b"same")
        with store.rewrite_folder(FIRST_FOLDER) as writer:
            writer.local_path("new").write_bytes(b"new")
            assert writer.store("new") == hash_blocks([b"new"])
            assert place.open().read_manifest(FIRST_FOLDER) == b"{}"
            writer.write_manifest('{"new": 1}')
            writer.remove("old")
        other = place.open()
        assert other.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
        assert other.read_manifest(FIRST_FOLDER) == b'{"new": 1}'
        assert other.list_files(FIRST_FOLDER) == {"new": 3, "same": 4}

    def test_failed_rewrite_changes_nothing(self, place, store):
        create_backup(store, old=b"old")
        with pytest.raises(ZeroDivisionError), store.rewrite_folder(FIRST_FOLDER) as writer:
            writer.local_path("new").write_bytes(b"new")
            writer.store("new")
            raise ZeroDivisionError
        other = place.open()
        assert other.read_manifest(FIRST_FOLDER) == b"{}"
        assert other.list_files(FIRST_FOLDER) == {"old": 3}
        with pytest.raises(RepositoryFailedError), store.rewrite_folder(SECOND_FOLDER):
            pass
        assert set(other.list_folders()) == {FIRST_FOLDER}

    def test_files_are_stored_unchanged(self, place, store):
        content = os.urandom(1000)
        create_backup(store, manifest='{"a": "ä"}\n', one=content, empty=b"")
        other = place.open()
        assert other.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
        assert other.read_manifest(FIRST_FOLDER) == '{"a": "ä"}\n'.encode()
        assert other.list_files(FIRST_FOLDER) == {"one": 1000, "empty": 0}
        assert b"".join(other.read(FIRST_FOLDER, "one")) == content
        assert b"".join(other.read(FIRST_FOLDER, "empty")) == b""
        with other.open_locally(FIRST_FOLDER, "one") as path:
            assert path.read_bytes() == content

    @pytest.mark.parametrize("method", ["local file", "blocks"])
    def test_large_file_is_stored_and_read_in_blocks(self, store, method):
        content = os.urandom(1 << 20) * 9 + b"x" * 17
        blocks = [content[start : start + 100_000] for start in range(0, LARGE_SIZE, 100_000)]
        with store.create_folder(FIRST_FOLDER) as writer:
            if method == "local file":
                writer.local_path("big").write_bytes(content)
                stored = writer.store("big")
            else:
                stored = writer.write("big", iter(blocks), LARGE_SIZE)
            writer.write_manifest("{}")
        assert stored == hash_blocks([content]) == hash_blocks(store.read(FIRST_FOLDER, "big"))
        assert stored.bytes == LARGE_SIZE
        assert max(map(len, store.read(FIRST_FOLDER, "big"))) < LARGE_SIZE

    def test_known_hash_is_accepted(self, store):
        with store.create_folder(FIRST_FOLDER) as writer:
            writer.local_path("a").write_bytes(b"abc")
            expected = hash_blocks([b"abc"])
            assert writer.store("a", expected.sha256) == expected
            writer.write_manifest("{}")

    def test_stored_file_is_readable_locally_until_next_file(self, store):
        with store.create_folder(FIRST_FOLDER) as writer:
            writer.local_path("a").write_bytes(b"abc")
            writer.store("a")
            assert writer.local_path("a").read_bytes() == b"abc"
            writer.local_path("b").write_bytes(b"b")
            writer.store("b")
            writer.write_manifest("{}")
        assert store.list_files(FIRST_FOLDER) == {"a": 3, "b": 1}

    def test_removed_file_can_be_created_again(self, place, store):
        with store.create_folder(FIRST_FOLDER) as writer:
            writer.remove("missing")
            writer.local_path("a").write_bytes(b"first")
            writer.store("a")
            writer.remove("a")
            assert not writer.local_path("a").exists()
            writer.local_path("a").write_bytes(b"second")
            writer.store("a")
            writer.local_path("b").write_bytes(b"not stored")
            writer.remove("b")
            writer.write_manifest("{}")
        assert b"".join(place.open().read(FIRST_FOLDER, "a")) == b"second"
        assert store.list_files(FIRST_FOLDER) == {"a": 6}

    def test_lock_is_visible_to_other_processes(self, place, store):
        create_backup(store, a=b"first")
        assert not place.open().is_locked()
        with store.lock("test", timeout=5):
            assert place.open().is_locked()
        assert not place.open().is_locked()

    def test_folder_is_incomplete_until_the_manifest_is_written(self, place, store):
        with store.create_folder(FIRST_FOLDER) as writer:
            writer.write("a", iter([b"a"]), 1)
            assert place.open().list_folders() == {FIRST_FOLDER: FolderState.INCOMPLETE}
            writer.write_manifest("{}")
            assert place.open().list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}

    def test_failed_folder_is_deleted(self, place, store):
        create_backup(store, a=b"earlier")
        for error in (ValueError, KeyboardInterrupt, OSError):
            expected = RepositoryFailedError if error is OSError else error
            with pytest.raises(expected), store.create_folder(SECOND_FOLDER) as writer:
                writer.local_path("a").write_bytes(b"a" * 10)
                writer.store("a")
                writer.local_path("b").write_bytes(b"b")
                raise error
            assert place.open().list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
            assert place.list_names(SECOND_FOLDER) == set()
        assert store.list_files(FIRST_FOLDER) == {"a": 7}

    def test_folder_with_failing_content_is_deleted(self, place, store):
        def content():
            yield b"x" * LARGE_SIZE
            raise ValueError

        with pytest.raises(ValueError), store.create_folder(FIRST_FOLDER) as writer:  # noqa: PT011 - any ValueError
            writer.write("big", content(), 2 * LARGE_SIZE)
        assert place.list_names(FIRST_FOLDER) == set()

    def test_folder_without_manifest_raises_runtime_error(self, store):
        with pytest.raises(RuntimeError), store.create_folder(FIRST_FOLDER):
            pass

    def test_existing_folder_is_not_created_again(self, place, store):
        create_backup(store, a=b"first")
        before = place.list_names(FIRST_FOLDER)
        with pytest.raises(RepositoryFailedError, match=r"exists already|File exists"):
            create_backup(place.open(), a=b"second")
        assert (place.list_names(FIRST_FOLDER), b"".join(store.read(FIRST_FOLDER, "a"))) == (before, b"first")

    def test_concurrent_creation_of_folder_succeeds_once(self, place):
        results, barrier = list[str](), threading.Barrier(4)

        def run(number: int) -> None:
            store = place.open()
            barrier.wait()
            try:
                create_backup(store, a=b"%d" % number, manifest=f"{number}")
            except RepositoryFailedError:
                results.append("refused")
            else:
                results.append(f"{number}")

        threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [result for result in results if result != "refused"]
        store = place.open()
        assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
        assert (store.read_manifest(FIRST_FOLDER), b"".join(store.read(FIRST_FOLDER, "a"))) == (
            winner.encode(),
            winner.encode(),
        )

    # Reading -------------------------------------------------------------------------------------------------------

    def test_folders_are_sorted_and_have_states(self, place, store):
        create_backup(store, SECOND_FOLDER, a=b"")
        create_backup(store, FIRST_FOLDER, a=b"")
        place.put("20250101_000000", "by-hand.db", b"x")
        place.put("20250101_000001", ".dbctl-incomplete", b"")
        states = store.list_folders()
        assert list(states) == ["20250101_000000", "20250101_000001", FIRST_FOLDER, SECOND_FOLDER]
        assert folders_in_state(states, FolderState.FOREIGN) == ["20250101_000000"]
        assert folders_in_state(states, FolderState.INCOMPLETE) == ["20250101_000001"]

    def test_apps_are_separate(self, place):
        create_backup(place.open("app"), FIRST_FOLDER)
        create_backup(place.open("app-2"), SECOND_FOLDER)
        assert list(place.open("app").list_folders()) == [FIRST_FOLDER]
        assert list(place.open("app-2").list_folders()) == [SECOND_FOLDER]
        assert place.open("ap").list_folders() == {}

    def test_app_name_may_contain_special_characters(self, place):
        apps = ["../../x", "a b", "ä", "%2E", "a/b", "a#?&"]
        for app in apps:
            create_backup(place.open(app), a=app.encode())
        for app in apps:
            reopened = place.open(app)
            assert list(reopened.list_folders()) == [FIRST_FOLDER]
            assert b"".join(reopened.read(FIRST_FOLDER, "a")) == app.encode()

    def test_file_name_may_contain_special_characters(self, place, store):
        names = ["a b", "ä", "%41%2F", "a+b&c=d", "a#b?c", "'\"<>", "\u202ea", "~" * 200]
        with store.create_folder(FIRST_FOLDER) as writer:
            for name in names:
                writer.write(name, iter([name.encode()]), len(name.encode()))
            writer.write_manifest("{}")
        reopened = place.open()
        assert reopened.list_files(FIRST_FOLDER) == {name: len(name.encode()) for name in names}
        assert [b"".join(reopened.read(FIRST_FOLDER, name)).decode() for name in names] == names
        assert place.list_names(FIRST_FOLDER) == {*names, "manifest.json"}

    def test_missing_file_is_reported(self, place, store):
        create_backup(store, a=b"1")
        place.delete(FIRST_FOLDER, "a")
        with pytest.raises(RepositoryFailedError):
            b"".join(store.read(FIRST_FOLDER, "a"))
        assert store.list_files(FIRST_FOLDER) == {}

    def test_oversized_manifest_is_refused(self, place, store):
        create_backup(store)
        place.delete(FIRST_FOLDER, "manifest.json")
        place.put(FIRST_FOLDER, "manifest.json", b" " * (17 << 20))
        with pytest.raises(RepositoryFailedError):
            store.read_manifest(FIRST_FOLDER)

    # Changing -----------------------------------------------------------------------------------------------------

    def test_verification_record_is_replaced_and_not_listed(self, place, store):
        create_backup(store, a=b"1")
        store.write_verification(FIRST_FOLDER, "first")
        store.write_verification(FIRST_FOLDER, "second")
        assert place.open().read_verification(FIRST_FOLDER) == b"second"
        assert store.list_files(FIRST_FOLDER) == {"a": 1}

    def test_verification_of_missing_folder_is_refused(self, place, store):
        create_backup(store, SECOND_FOLDER)
        with pytest.raises(Exception, match=FIRST_FOLDER):
            store.write_verification(FIRST_FOLDER, "late")
        assert place.list_names(FIRST_FOLDER) == set()

    def test_remove_folder_deletes_only_that_folder(self, place, store):
        create_backup(store, FIRST_FOLDER, a=b"1", b=b"2")
        create_backup(store, SECOND_FOLDER, a=b"1")
        store.write_verification(FIRST_FOLDER, "x")
        store.remove_folder(FIRST_FOLDER)
        assert place.open().list_folders() == {SECOND_FOLDER: FolderState.COMPLETE}
        assert place.list_names(FIRST_FOLDER) == set()

    def test_incomplete_folder_can_be_removed(self, place, store):
        place.put(FIRST_FOLDER, ".dbctl-incomplete", b"")
        place.put(FIRST_FOLDER, "a", b"1")
        store.remove_folder(FIRST_FOLDER)
        assert place.list_names(FIRST_FOLDER) == set()

    def test_record_that_was_written_during_the_deletion_is_removed(self, place, store):
        place.put(FIRST_FOLDER, "verified.json", b"{}")
        assert store.list_folders() == {FIRST_FOLDER: FolderState.INCOMPLETE}
        store.remove_folder(FIRST_FOLDER)
        assert place.list_names(FIRST_FOLDER) == set()

    # Locks and local folders ------------------------------------------------------------------------------------------------------

    def test_second_process_waits_for_lock(self, place, store):
        with store.lock("backup create", timeout=0):
            with pytest.raises(BusyError, match=f"backup create.*{os.getpid()}"):
                place.open().lock("other", timeout=0).__enter__()
            create_backup(place.open(), a=b"1")  # the store does not lock itself; its caller does
        with place.open().lock("other", timeout=0):
            pass

    def test_record_is_locked_while_the_store_is_not(self, place, store):
        create_backup(store, a=b"1")
        entered = threading.Event()

        def replace():
            with place.open().lock_record(FIRST_FOLDER):
                entered.set()

        other = threading.Thread(target=replace)
        with store.lock_record(FIRST_FOLDER), place.open().lock("other", timeout=0):
            with pytest.raises(BusyError):
                place.open().lock_record(FIRST_FOLDER, timeout=0).__enter__()
            other.start()
            assert not entered.wait(0.1)
        other.join()
        assert entered.is_set()

    def test_lock_is_released_on_failure(self, place, store):
        with pytest.raises(ValueError), store.lock("first", timeout=0):  # noqa: PT011 - any ValueError
            raise ValueError
        with place.open().lock("second", timeout=0):
            pass

    def test_apps_have_separate_locks(self, place):
        with place.open("one").lock("a", timeout=0), place.open("two").lock("b", timeout=0):
            pass

    def test_temp_dir_is_private_and_deleted(self, store):
        create_backup(store)
        with store.temp_dir(10) as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "plain").write_bytes(b"x")
        assert not folder.exists()

    def test_insufficient_space_is_refused(self, store):
        create_backup(store)
        with pytest.raises(InsufficientSpaceError):
            store.require_space(1 << 60)
        with pytest.raises(InsufficientSpaceError), store.temp_dir(1 << 60):
            pass
        store.require_space(1)
        assert store.free_space() is None or store.free_space() > 1
