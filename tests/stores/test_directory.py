"""The store contract for directories."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbctl.stores.base import Store
from dbctl.stores.registry import open_store
from tests.conformance.stores import FIRST_FOLDER, StoreContract, StoreLocation, create_backup


class DirectoryLocation(StoreLocation):
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700)

    def open(self, app: str = "app") -> Store:
        return open_store(str(self._root), app, folder=self._root)

    def put(self, folder: str, name: str, content: bytes) -> None:
        top = self._root / "app" / folder
        top.mkdir(parents=True, exist_ok=True, mode=0o700)
        top.parent.chmod(0o700)
        (top / name).write_bytes(content)

    def delete(self, folder: str, name: str) -> None:
        (self._root / "app" / folder / name).unlink()

    def list_names(self, folder: str) -> set[str]:
        top = self._root / "app" / folder
        return {path.name for path in top.iterdir()} if top.is_dir() else set()


class TestDirectory(StoreContract):
    @pytest.fixture
    def place(self, tmp_path):
        yield DirectoryLocation(tmp_path / "backups")
        shutil.rmtree(tmp_path / "backups")

    def test_folder_is_removed_after_the_record_that_is_being_written(self, place, store):
        create_backup(store, a=b"1")
        with ThreadPoolExecutor(1) as pool:
            with store.lock_record(FIRST_FOLDER):
                removal = pool.submit(place.open().remove_folder, FIRST_FOLDER)
                with pytest.raises(TimeoutError):
                    removal.result(timeout=0.2)
                store.write_verification(FIRST_FOLDER, "{}")
            removal.result()
        assert store.list_folders() == {}
