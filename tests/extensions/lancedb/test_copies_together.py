"""Copies of a SQLite file and a folder of LanceDB replace both destinations, or none."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import lancedb
import pytest

from tests.databases import File, Folder
from tests.services.restore.test_copy_several import NEW, OLD, Pair, block, fill
from tests.services.restore.test_mounted import run_mounted


class Vectors(Folder):
    """A folder that is filled and read as the databases of other engines."""

    engine = "lancedb"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.url = f"lancedb:{path}"

    def run(self, *statements: str) -> None:
        number = re.search(r"values \((\d+)\)", statements[-1])
        shutil.rmtree(self.path, ignore_errors=True)
        lancedb.connect(self.path).create_table("t", [{"a": int(number[1])}])

    def tables(self) -> list[str]:
        return [path.stem for path in self.path.glob("*.lance")]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        assert sql == "select a from t"
        return [(row["a"],) for row in lancedb.connect(self.path).open_table("t").to_arrow().to_pylist()]


@pytest.mark.parametrize("exists", [True, False])
def test_folder_gets_its_previous_content_after_the_failure_of_a_file(exists, tmp_path):
    (tmp_path / "out").mkdir()
    folders = tmp_path, tmp_path / "out"
    sources, (first, second) = [[Vectors(folder / "copy0"), File(folder / "copy1")] for folder in folders]
    pair = Pair(tmp_path, sources, [first, second])
    fill(second, 7)
    if exists:
        fill(first, 7)
    with block(second):
        assert pair.run(*pair.list_words(), status=11)["error"]["code"] == "busy"
    assert pair.contents() == [OLD if exists else [], OLD]
    assert first.path.exists() == exists
    assert pair.list_leftovers() == []
    pair.run(*pair.list_words())
    assert pair.contents() == [NEW, NEW]
    assert pair.list_leftovers() == []


@pytest.mark.slow
def test_replaced_folder_that_cannot_be_removed_is_a_remark(tmp_path):
    (tmp_path / "out").mkdir()
    folders = tmp_path, tmp_path / "out"
    sources, (first, second) = [[Vectors(folder / "copy0"), File(folder / "copy1")] for folder in folders]
    pair = Pair(tmp_path, sources, [first, second])
    fill(first, 7)
    fill(second, 7)
    outside, mounted = tmp_path / "outside", first.path / "mounted"
    outside.mkdir()
    mounted.mkdir()
    if run_mounted(outside, mounted, "true").returncode != 0:
        pytest.skip("mounts are not permitted, even in a separate namespace")
    words = [*pair.list_words(), "--config", str(tmp_path / "dbctl.toml"), "-o", "json"]
    result = run_mounted(outside, mounted, sys.executable, "-m", "dbctl", *words)
    assert result.returncode == 0, result
    assert any("busy" in text for text in json.loads(result.stdout)["warnings"])
    assert pair.contents() == [NEW, NEW]
