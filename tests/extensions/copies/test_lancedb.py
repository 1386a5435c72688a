"""Copies of LanceDB: new tables without versions and deleted rows, in which only decoded values can be searched."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest
from lancedb.index import FTS, BTree, Fm, IvfFlat, LabelList

from dbctl.engines import registry
from dbctl.extensions.copies.private import require_rewriter
from dbctl.extensions.copies.pseudonyms import CopyKey, Pseudonyms
from dbctl.url import Url
from tests.crash.figures import choose_count
from tests.in_process import CLEAN_ENVIRONMENT, run_command

PROFILE = """
schema = "dbctl.profile/1"
name = "chat"
title = "Chat"
[databases.main]
engines = ["sqlite"]
needs = ["members"]
[databases.vectors]
engines = ["lancedb"]
keys = { notes = ["id"] }
[users]
table = "members"
id = { column = "id", codec = "given" }
login = ["id"]
[users.fields]
id = "id"
email = "email"
[[link]]
name = "members of notes"
database = "vectors"
table = "notes"
column = "member"
to = "main"
targets = ["members.id"]
[anonymise.databases.main.columns]
"members.id" = "token"
[anonymise.databases.vectors.tables]
drafts = "empty"
[anonymise.databases.vectors.columns]
"notes.id" = "keep"
"notes.mail" = "email"
"notes.body" = "text"
"notes.kind" = "keep"
"notes.author" = "name"
"notes.tags" = "login"
"notes.meta" = { kind = "json", paths = { lang = "keep" }, rest = "text" }
"notes.raw" = "token"
"notes.written" = "date"
"notes.extra" = "text"
"""
KEY = b"0123456789abcdef0123456789abcdef"
SIZE = 8
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
        ("member", pa.string()),
        ("mail", pa.string()),
        ("body", pa.string()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("author", pa.dictionary(pa.int32(), pa.string())),
        ("tags", pa.list_(pa.string())),
        ("meta", pa.struct([("lang", pa.string()), ("owner", pa.string()), ("at", pa.timestamp("us")), ("score", pa.float64())])),
        ("raw", pa.binary()),
        ("written", pa.timestamp("us")),
        ("extra", pa.map_(pa.string(), pa.string())),
        ("count", pa.int64()),
        ("vector", pa.list_(pa.float32(), SIZE)),
        pa.field("second", pa.list_(pa.float32(), SIZE), nullable=False),
    ]
)  # fmt: skip


def build_note(number: int) -> dict[str, object]:
    """Return a row; its texts and vectors occur in no other file."""
    return {
        "id": f"note-{number:05}", "member": f"member-{number:05}-owl", "mail": f"ada{number}@mill{number}.example",
        "body": f"Dear Quillfeather, wheel {number:05} turns", "kind": ("user", "assistant")[number % 2], "author": f"Ada Quillfeather {number:05}",
        "tags": [f"quill{number:05}", "", None], "raw": f"raw-{number:05}-zebrafish".encode(),
        "meta": {"lang": "de", "owner": f"Mühle {number:05}", "at": datetime(2024, 5, 6, 7, 8, 9, 10), "score": float("nan")},  # noqa: DTZ001 - of a column without a zone
        "written": datetime(2024, 1, 2) + timedelta(minutes=number), "extra": [("Nick", f"Quilly {number:05}")], "count": number,  # noqa: DTZ001
        "vector": [number + place / 16 + 0.0625 for place in range(SIZE)], "second": [number + place / 32 + 0.03125 for place in range(SIZE)],
    }  # fmt: skip


def list_originals(number: int) -> list[bytes]:
    """Return the texts and vectors of a row that no copy has."""
    row = build_note(number)
    texts = [row[name] for name in ("member", "mail", "body", "author")]
    texts += [f"quill{number:05}", f"Mühle {number:05}", f"Quilly {number:05}", f"raw-{number:05}-zebrafish"]
    vectors = [pa.array(row[name], pa.float32()).to_numpy().tobytes() for name in ("vector", "second")]
    return [*(str(text).encode() for text in texts), *vectors]


def create_app(folder: Path, count: int) -> None:
    """Create an app with members in SQLite and their notes in LanceDB: with versions, a tag, deleted rows and indexes."""
    folder.mkdir(parents=True)
    (folder / "chat.toml").write_text(PROFILE)
    (folder / "dbctl.toml").write_text(
        '[apps.chat]\nprofile = "chat.toml"\n[apps.chat.databases]\nmain = "chat.db"\nvectors = "lancedb"\n'
        '[apps.chat.backup]\nrepository = "backups"\n'
    )
    notes = [build_note(number) for number in range(count)]
    with closing(sqlite3.connect(folder / "chat.db")) as connection, connection:
        connection.execute("create table members (id text primary key, email text)")
        connection.executemany("insert into members values (:member, :mail)", notes)
    connection = lancedb.connect(folder / "lancedb")
    table = connection.create_table("notes", schema=SCHEMA.with_metadata({"app": "chat 1.0"}))
    for start in range(0, count, 5000):
        table.add(pa.Table.from_pylist(notes[start : start + 5000], SCHEMA))
    table.tags.create("first", table.version)
    table.create_index("body", config=FTS(stem=False, language="German", with_position=True))
    table.create_index("id", config=BTree())
    table.create_index("tags", config=LabelList())
    table.create_index("mail", config=Fm())
    table.create_index("vector", config=IvfFlat(num_partitions=1))
    table.update(where="count = 1", values={"body": "Quillfeather was here"})
    table.update(where="count = 3", values_sql={"vector": "null"})
    table.delete("count = 2")
    drafts = connection.create_table("drafts", pa.table({"text": ["Quillfeather's draft"]}))
    drafts.create_index("text", config=FTS())


def run(folder: Path, *words: str, status: int = 0) -> dict:
    done = run_command([*words, "-o", "json"], environment=CLEAN_ENVIRONMENT, cwd=folder)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def app(tmp_path):
    create_app(tmp_path / "app", 300)
    (tmp_path / "app/copies.key").write_bytes(KEY)
    (tmp_path / "app/out").mkdir()
    run(tmp_path / "app", "backup", "create")
    return tmp_path / "app"


def read(folder: Path, table: str = "notes") -> lancedb.table.Table:
    return lancedb.connect(folder).open_table(table)


def dump_values(folder: Path) -> bytes:
    """Return every value of every version of every table, as lines."""
    lines = list[bytes]()
    for path in folder.glob("*.lance"):
        newest = read(folder, path.stem)
        for version in newest.list_versions():
            table = read(folder, path.stem)
            table.checkout(version["version"])
            for row in table.search(None).to_arrow().to_pylist():
                lines.append(repr(row).encode())
                lines += [value for value in row.values() if isinstance(value, bytes)]
                for name in ("vector", "second"):
                    lines.append(pa.array(row.get(name) or [], pa.float32()).to_numpy().tobytes())
    return b"\n".join(lines)


def copy(app: Path, *words: str, status: int = 0) -> dict:
    return run(app, "copy", "--to", "out/", "--anonymise", "--key", "copies.key", *words, status=status)


@pytest.mark.slow
def test_values_are_the_pseudonyms_of_all_engines_and_other_types_stay(app):
    result = copy(app)
    pseudonyms = Pseudonyms(CopyKey(app / "copies.key").secret)
    table = read(app / "out/lancedb")
    rows = {row["id"]: row for row in table.search(None).to_list()}
    assert len(rows) == 299
    old, new = build_note(7), rows["note-00007"]
    assert new["mail"] == pseudonyms.replace("email", old["mail"])
    assert new["body"] == pseudonyms.replace("text", old["body"])
    assert new["author"] == pseudonyms.replace("name", old["author"])
    assert new["tags"] == [pseudonyms.replace("login", "quill00007"), "", None]
    assert new["raw"].decode() == pseudonyms.replace("token", "raw-00007-zebrafish")
    assert new["written"] == old["written"] - timedelta(days=pseudonyms.shift)
    assert dict(new["extra"]) == {
        pseudonyms.replace("text", "Nick"): pseudonyms.replace("text", "Quilly 00007")
    }
    owner = pseudonyms.replace("text", "Mühle 00007")
    assert {name: new["meta"][name] for name in ("lang", "owner", "at")} == {
        "lang": "de", "owner": owner, "at": datetime(2024, 5, 6, 7, 8, 9, 10),  # noqa: DTZ001
    }  # fmt: skip
    assert new["meta"]["score"] != new["meta"]["score"]  # NaN
    assert (new["kind"], new["count"], new["vector"], new["second"]) == ("assistant", 7, None, [0.0] * SIZE)
    with closing(sqlite3.connect(app / "out/chat.db")) as connection:
        members = dict(connection.execute("select id, email from members"))
    assert members[new["member"]] == new["mail"]
    assert table.schema.remove_metadata() == SCHEMA.remove_metadata()
    assert (table.schema.metadata, table.schema.field("id").metadata) == (
        {b"app": b"chat 1.0"},
        SCHEMA.field("id").metadata,
    )
    assert (
        "vectors: 298 vectors of notes.vector were removed: they are computed from texts"
        in result["warnings"]
    )
    assert result["data"]["tables"]["vectors.notes"].endswith("vector removed, second removed")
    assert json.loads((app / "out/lancedb.copy.json").read_text())["proof"]["hits"] == 0


@pytest.mark.slow
def test_copy_has_one_version_without_deleted_rows_and_its_indexes_have_no_original(app):
    result = copy(app)
    table = read(app / "out/lancedb")
    assert not list((app / "out/lancedb").rglob("_deletions")) + list((app / "out/lancedb").rglob("_refs"))
    assert table.tags.list() == {}
    content = dump_values(app / "out/lancedb")
    assert [value for number in range(300) for value in list_originals(number) if value in content] == []
    assert b"Quillfeather" not in content
    files = b"".join(path.read_bytes() for path in (app / "out/lancedb").rglob("*") if path.is_file())
    assert b"uillfeather" not in files.lower()
    indexes = {index.name: index for index in table.list_indices()}
    assert sorted(indexes) == ["body_idx", "id_idx", "tags_idx"]
    assert {index.num_unindexed_rows for index in indexes.values()} == {0}
    assert indexes["body_idx"].index_details["language"] == "German"
    assert not table.search("Quillfeather", query_type="fts").limit(5).to_list()
    assert len(table.search("Text", query_type="fts").limit(500).to_list()) == 299
    assert any("mail_idx" in text and "another kind" in text for text in result["warnings"])
    assert any("vector_idx" in text and "no vectors" in text for text in result["warnings"])
    assert read(app / "out/lancedb", "drafts").count_rows() == 0
    assert [index.name for index in read(app / "out/lancedb", "drafts").list_indices()] == ["text_idx"]


@pytest.mark.slow
def test_original_that_another_column_repeats_is_found_although_files_are_compressed(app):
    result = copy(app, "--keep", "notes.body")
    assert result["data"]["proofs"][1]["copied"] == 0  # greetings that no other column has
    table = read(app / "lancedb")
    table.add_columns({"again": "author"})
    run(app, "backup", "create")
    assert copy(app, "--replace", "--yes", status=6)["error"]["code"] == "copy-rules-missing"
    result = copy(app, "--keep", "notes.again", "--replace", "--yes")
    assert result["data"]["proofs"][1]["copied_in"] == {"notes.again": 299}
    profile = app / "chat.toml"
    profile.write_text(
        profile.read_text() + '"notes.again" = { kind = "text", after = "Ada ", rest = "keep" }\n'
    )
    copy(app, "--replace", "--yes")


@pytest.mark.slow
def test_copied_vectors_remain_with_their_index(app):
    result = copy(app, "--keep", "notes.vector")
    table = read(app / "out/lancedb")
    rows = {row["id"]: row["vector"] for row in table.search(None).select(["id", "vector"]).to_list()}
    assert rows["note-00007"] == build_note(7)["vector"]
    assert "vector_idx" in {index.name for index in table.list_indices()}
    assert not any("notes.vector " in text for text in result["warnings"])


@pytest.mark.slow
def test_sample_of_members_leaves_their_notes_out(app):
    copy(app, "--sample", "members:10%")
    with closing(sqlite3.connect(app / "out/chat.db")) as connection:
        members = {name for (name,) in connection.execute("select id from members")}
    notes = [row["member"] for row in read(app / "out/lancedb").search(None).to_list()]
    assert 0 < len(notes) < 100
    assert set(notes) <= members


def test_sample_with_original_values_has_nothing_of_the_other_rows(app):
    run(app, "copy", "--to", "out/", "--key", "copies.key", "--sample", "members:10%")
    rows = read(app / "out/lancedb").search(None).to_list()
    assert 0 < len(rows) < 100
    assert rows[0]["vector"] == build_note(int(rows[0]["id"][-5:]))["vector"]
    content, members = dump_values(app / "out/lancedb"), {row["member"] for row in rows}
    lost = [number for number in range(300) if f"member-{number:05}-owl" not in members]
    assert [value for number in lost for value in list_originals(number) if value in content] == []


def test_pseudonym_that_a_type_cannot_store_is_refused(app):
    codes = pa.table({"code": pa.array([b"0123456789abcdef"], pa.binary(16))})
    lancedb.connect(app / "lancedb").create_table("codes", codes)
    run(app, "backup", "create")
    profile = app / "chat.toml"
    profile.write_text(profile.read_text() + '"codes.code" = "token"\n')
    result = copy(app, status=6)
    assert result["error"]["code"] == "copy-constraint"
    assert "codes.code" in result["error"]["message"]
    assert not list((app / "out").glob("[!.]*"))


def test_column_that_cannot_be_read_is_reported(tmp_path):
    lancedb.connect(tmp_path).create_table("names", pa.table({"odd`name": ["Ada Quillfeather"], "id": [1]}))
    engine = registry.load_engine("lancedb")
    with closing(
        engine.open_for_writing(Url(engine="lancedb", path=str(tmp_path)), "app", timeout=5)
    ) as writer:
        assert require_rewriter(writer, "LanceDB").find_unreadable() == ["names.odd`name"]


def test_live_copy_is_refused_if_one_database_is_damaged(tmp_path):
    """It lacked that database, without a word."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "chat.toml").write_text(PROFILE)
    (app / "dbctl.toml").write_text(
        '[apps.chat]\nprofile = "chat.toml"\ndatabases = { main = "chat.db", vectors = "lancedb" }\n'
    )
    with closing(sqlite3.connect(app / "chat.db")) as connection:
        connection.execute("create table members (id text primary key, email text)")
    lancedb.connect(app / "lancedb").create_table("notes", pa.Table.from_pylist([build_note(1)], SCHEMA))
    (file,) = (app / "lancedb").rglob("data/*.lance")
    file.unlink()
    assert run(app, "copy", "--from", "live", "--to", "out/", status=4)["error"]["code"] == "corrupt"
    assert not (app / "out").exists()
    run(app, "copy", "--from", "live", "--to", "out/", "--db", "main")


@pytest.mark.slow
def test_none_of_ten_thousand_originals_is_found(tmp_path):
    count = 1300
    create_app(tmp_path / "app", count)
    (tmp_path / "app/out").mkdir()
    originals = [value for number in range(count) for value in list_originals(number)]
    assert len(set(originals)) > 10_000
    run(tmp_path / "app", "copy", "--from", "live", "--to", "out/", "--anonymise")
    content = dump_values(tmp_path / "app/out/lancedb")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "app/out").rglob("*") if path.is_file())
    assert [original for original in originals if original in content or original in raw] == []
    assert not [path for path in (tmp_path / "app").rglob(".*dbctl-*") if path.is_dir()]
    app = dump_values(tmp_path / "app/lancedb")
    assert all(original in app for original in originals)  # the search finds them where they are


@pytest.mark.slow
def test_killed_copy_leaves_no_readable_original(app):
    words = [sys.executable, "-m", "dbctl", "copy", "--to", "out/", "--anonymise", "--replace", "--yes"]
    environment = {**os.environ, **CLEAN_ENVIRONMENT}
    start = time.monotonic()
    subprocess.run(words, cwd=app, env=environment, check=True, capture_output=True)
    duration, moments = time.monotonic() - start, choose_count(6, 15)
    for number in range(moments):
        with subprocess.Popen(
            words, cwd=app, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(duration * number / moments)
            process.send_signal(signal.SIGKILL)
        for folder in {path.parent for path in (app / "out").rglob("notes.lance")}:
            assert b"uillfeather" not in dump_values(folder)
        for path in app.rglob(".*dbctl-*"):
            assert (
                not path.is_dir() or path.is_relative_to(app / "out") or path.stat().st_mode & 0o777 == 0o700
            )
    copy(app, "--replace", "--yes")
    assert read(app / "out/lancedb").count_rows() == 299
    for parent in (app, app / "out", app / "backups"):
        assert not [
            path for path in parent.glob(".*") if "unpacked" in path.name or path.name.endswith(".partial")
        ]
