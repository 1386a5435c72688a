"""Semantic search ranks rows by cosine similarity, in both variants; invalid requests are refused."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import CorruptError, DatabaseMissingError
from dbctl.errors.databases import VectorInvalidError, VectorMissingError
from dbctl.errors.usage import (
    DatabaseNotConfiguredError,
    FeatureMissingError,
    NoMatchError,
    SchemaMismatchError,
    UsageError,
    ValueInvalidError,
)
from dbctl.extensions.lancedb.vectors import LanceVectors
from dbctl.extensions.semantic import vector_input
from dbctl.extensions.semantic.errors import EmbedderFailedError, EmbedderNotConfiguredError
from dbctl.extensions.semantic.search import MAX_ROWS, Reference, SemanticRequest, find
from dbctl.extensions.semantic.section import Embedder
from dbctl.services.checks.run import examine
from tests.engines import lance
from tests.engines.lance import SIZE, TABLE
from tests.shapes import chat_lancedb

NUMBERS = range(60)


def create_deployment(folder: Path, *, deployed: bool, numbers=NUMBERS) -> Path:
    """Create a deployment; the SQLite file lacks most of the messages that have vectors."""
    (chat_lancedb.deployed if deployed else chat_lancedb.document)(folder / "chat.db")
    with closing(sqlite3.connect(folder / "chat.db", isolation_level=None)) as db:
        db.execute("pragma foreign_keys = off")
        db.execute("insert into users (id) values ('USER-1'), ('USER-quiet')")
        db.execute(
            "insert into chats (id, user_id, title) values ('chat-1', 'USER-1', 'As it is called now')"
        )
        db.execute(
            "insert into messages (id, chat_id, user_id, content, role, timestamp)"
            " values ('msg-00008', 'chat-1', 'USER-1', 'What the file says', 'user', '2025-01-02 03:04:05')"
        )
    table = lance.create_table(folder / "lancedb", numbers, deployed=deployed)
    duplicate = lance.create_row(10, deployed=deployed)  # the app stores some rows several times
    table.add(
        [
            duplicate,
            duplicate,
            {**lance.create_row(0, deployed=deployed), ("message_id" if deployed else "id"): "_init"},
        ]
    )
    return folder


@pytest.fixture(scope="module", params=["deployed", "document"])
def chat(request, tmp_path_factory):
    return create_deployment(tmp_path_factory.mktemp(request.param), deployed=request.param == "deployed")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    return create_deployment(tmp_path_factory.mktemp("only"), deployed=True)


def search(folder, embedder=None, *, summary=False, columns=(), **options):
    from dbctl.services.app.session import open_app

    selection = Selection(
        profile="chat-lancedb", urls=[f"chat={folder}/chat.db", f"vectors=lancedb:{folder}/lancedb"]
    )
    reference = {name: options.pop(name) for name in ("row", "file", "text") if name in options}
    with open_app(selection, timeout=2) as app:
        app.configured = structs.replace(app.configured, extension_sections={"embedder": embedder})
        return find(
            app,
            SemanticRequest(reference=Reference(**reference), **options),
            summary=summary,
            columns=columns,
        )


def list_ids(result):
    return [row["id"] for row in result.page.items]


def compute_cosine(vector, other):
    return math.fsum(a * b for a, b in zip(vector, other, strict=True)) / math.sqrt(
        math.fsum(a * a for a in vector) * math.fsum(b * b for b in other)
    )


def rank(vector, numbers=NUMBERS):
    """Return ids with their similarities, nearest first."""
    similarities = {
        f"msg-{number:05}": compute_cosine(vector, lance.create_vector(number)) for number in numbers
    }
    return sorted(similarities.items(), key=lambda item: -item[1])


# Results ------------------------------------------------------------------------------------------------------------


def test_neighbours_of_a_row_are_ranked_without_the_row(chat):
    result = search(chat, row="msg-00003", limit=10)
    expected = rank(lance.create_vector(3), [n for n in NUMBERS if n != 3])[:10]
    assert list_ids(result) == [name for name, _ in expected]
    for row, (_, similarity) in zip(result.page.items, expected, strict=True):
        assert row["similarity"] == pytest.approx(similarity, abs=1e-5)


@pytest.mark.parametrize("form", ["json", "lines", "commas", "bytes", "bom"])
def test_vector_files_are_read_in_every_format(chat, form):
    numbers = [struct.unpack("<f", struct.pack("<f", number))[0] for number in lance.create_vector(7)]
    raw = {
        "json": json.dumps(numbers).encode(),
        "lines": "\n".join(map(repr, numbers)).encode() + b"\n",
        "commas": ", ".join(map(repr, numbers)).encode(),
        "bytes": struct.pack(f"<{SIZE}f", *numbers),
        "bom": b"\xef\xbb\xbf" + json.dumps(numbers).encode(),
    }[form]
    result = search(chat, file=raw, limit=3)
    assert list_ids(result) == [name for name, _ in rank(numbers)[:3]]
    assert result.page.items[0]["similarity"] == pytest.approx(1, abs=1e-5)


def test_text_is_embedded_by_configured_embedder(chat):
    code = f"import sys, json; text = sys.stdin.read(); print(json.dumps([len(text)] + [0] * {SIZE - 1}))"
    embedder = Embedder(kind="command", command=[sys.executable, "-c", code], model="text-embedding-004")
    result = search(chat, embedder, text="It's about cats", limit=4)
    assert list_ids(result) == [name for name, _ in rank([1.0] + [0.0] * (SIZE - 1))[:4]]
    assert result.notes == []


def test_different_models_are_reported(chat):
    code = f"print([1.0] * {SIZE})"
    embedder = Embedder(kind="command", command=[sys.executable, "-c", code], model="other")
    (note,) = search(chat, embedder, text="x").notes
    assert "text-embedding-004" in note
    assert "other" in note


def test_filters_are_applied_before_ranking(chat):
    result = search(chat, row="msg-00003", limit=30, filters={"user": "USER-1", "chat": "chat-2"})
    expected = [n for n in NUMBERS if n % 3 == 1 and n % 7 == 2]
    assert list_ids(result) == [name for name, _ in rank(lance.create_vector(3), expected)]
    assert {row["user"] for row in result.page.items} == {"USER-1"}


def test_minimum_similarity_ends_the_list(chat):
    result = search(chat, row="msg-00003", limit=50, min_similarity=0.2)
    assert list_ids(result) == [
        name
        for name, similarity in rank(lance.create_vector(3), [n for n in NUMBERS if n != 3])
        if similarity >= 0.2
    ]


def test_search_stops_at_minimum_similarity(chat, monkeypatch):
    limits, find_nearest = [], LanceVectors.find_nearest

    def record_limit(*arguments, limit, **options):
        limits.append(limit)
        return find_nearest(*arguments, limit=limit, **options)

    monkeypatch.setattr(LanceVectors, "find_nearest", record_limit)
    assert len(list_ids(search(chat, row="msg-00003", limit=4, min_similarity=0.9))) < 4
    assert len(limits) == 1


def test_large_limit_returns_each_row_once_without_placeholders(chat):
    result = search(chat, row="msg-00010", limit=MAX_ROWS)
    assert sorted(list_ids(result)) == [f"msg-{number:05}" for number in NUMBERS if number != 10]


def test_fields_of_stored_messages_replace_those_of_vectors(chat):
    rows = {row["id"]: row for row in search(chat, row="msg-00003", limit=100).page.items}
    stored, unknown = rows["msg-00008"], rows["msg-00009"]
    assert (stored["stored"], stored["content"], stored["chat_stored"]) == (True, "What the file says", True)
    assert stored["timestamp"] == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert stored["chat_title"] == "As it is called now"
    assert (unknown["stored"], unknown["content"], unknown["chat_stored"]) == (False, "It's text 9", False)
    assert unknown["timestamp"] == datetime.fromtimestamp(1_700_000_009, tz=UTC)


def test_unreadable_database_does_not_hide_neighbours(deployed, tmp_path):
    shutil.copytree(deployed, tmp_path / "half")
    (tmp_path / "half/chat.db").write_bytes(b"no database" * 1000)
    result = search(tmp_path / "half", row="msg-00003")
    assert result.status == Exit.PARTIAL
    assert {row["stored"] for row in result.page.items} == {None}
    assert list_ids(result) == list_ids(search(deployed, row="msg-00003"))
    assert any("chat" in problem for problem in result.problems)


def test_vectors_are_searched_without_the_other_database(deployed):
    from dbctl.services.app.session import open_app

    urls = [f"vectors=lancedb:{deployed}/lancedb"]
    all_urls = [f"chat={deployed}/chat.db", *urls]
    for configured, only, note_count in ((urls, "", 1), (all_urls, "vectors", 0)):
        with open_app(Selection(profile="chat-lancedb", urls=configured), timeout=1, only=only) as app:
            result = find(app, SemanticRequest(reference=Reference(row="msg-00003")))
        assert list_ids(result) == list_ids(search(deployed, row="msg-00003"))
        assert {row["stored"] for row in result.page.items} == {None}
        assert (result.status, result.problems, len(result.notes)) == (Exit.OK, [], note_count)


def test_long_text_is_shortened_in_summary(tmp_path):
    folder = create_deployment(tmp_path, deployed=True, numbers=range(3))
    with closing(sqlite3.connect(folder / "chat.db", isolation_level=None)) as db:
        db.execute("update messages set content = ? where id = 'msg-00008'", ["a\nb " * 500])
        db.execute("update messages set id = 'msg-00001' where id = 'msg-00008'")
    text = {row["id"]: row["content"] for row in search(folder, row="msg-00002", summary=True).page.items}[
        "msg-00001"
    ]
    assert len(text) < 200
    assert text.endswith("…")
    assert "\n" not in text
    full_text = {row["id"]: row["content"] for row in search(folder, row="msg-00002").page.items}["msg-00001"]
    assert full_text == "a\nb " * 500


# Invalid vectors and requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reasons"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (json.dumps([0.1] * 384).encode(), "384 numbers"),
        (json.dumps([0] * SIZE).encode(), "are 0"),
        (b"[NaN]", "not valid JSON"),
        (b"[1, 2", "not valid JSON"),
        (b'{"values": [1]}', "an object"),
        (b'["1"]', "text"),
        (b"[[1]]", "a list"),
        (b"[true]", "true or false"),
        (b"[1e999]", "JSON|too large"),
        (b"nan " * SIZE, "word 1 is not a number"),
        (b"1 2 inf", "word 3 is not a number"),
        (b"1_0 2", "word 1 is not a number"),
        ("١ ٢".encode(), "word 1 is not a number"),
        (b"<html>", "word 1 is not a number"),
        (struct.pack(f"<{SIZE}f", *[math.nan] * SIZE), "not a number"),
        (struct.pack("<384f", *[1.5] * 384), "not text, and its size is not 64 bytes"),
        (b"1 " * (3 << 20), "too large"),
        (b"1 " * 100_000, "more than any model uses"),
        (b"1 " * 17, "17 numbers"),
    ],
)
def test_invalid_vectors_are_refused(deployed, raw, reasons):
    with pytest.raises(VectorInvalidError) as caught:
        search(deployed, file=raw)
    assert any(word in str(caught.value) for word in reasons.split("|")), caught.value
    assert caught.value.exit_status == Exit.USAGE
    assert len(str(caught.value)) < 300


def test_binary_vector_requires_known_dimension():
    with pytest.raises(VectorInvalidError):
        vector_input.parse_vector(struct.pack("<2f", 1.5, -2.5), "x", dimension=None)


@pytest.mark.parametrize("name", ["nope", "", "it's", "x' or '1' = '1", 'a"b', "MSG-00003", "-1", "猫"])
def test_missing_row_is_not_found(deployed, name):
    with pytest.raises(VectorMissingError) as caught:
        search(deployed, row=name)
    assert caught.value.exit_status == Exit.NOT_FOUND


def test_stored_message_without_vector_has_own_hint(deployed):
    with pytest.raises(VectorMissingError) as caught:
        search(deployed, row=chat_lancedb.QUESTION)
    assert "has this row" in caught.value.hint


@pytest.mark.parametrize(
    "filters", [{"user": "USER-nobody"}, {"chat": "it's"}, {"user": "USER-1", "chat": "x"}]
)
def test_unknown_filter_value_is_not_found(deployed, filters):
    with pytest.raises(NoMatchError) as caught:
        search(deployed, row="msg-00003", filters=filters)
    assert caught.value.exit_status == Exit.NOT_FOUND


def test_user_without_vectors_has_no_results(deployed):
    assert search(deployed, row="msg-00003", filters={"user": "USER-quiet"}).page.items == []
    assert (
        search(
            deployed, row="msg-00003", filters={"user": "USER-1", "chat": "chat-1"}, min_similarity=1
        ).page.items
        == []
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row": "msg-00001", "text": "x"},
        {"row": "a", "text": "b", "file": b"[1]"},
        {"row": "msg-00001", "limit": MAX_ROWS + 1},
        {"row": "msg-00001", "min_similarity": 1.5},
    ],
)
def test_requests_without_exactly_one_reference_are_refused(deployed, options):
    with pytest.raises(UsageError):
        search(deployed, **options)


def test_text_without_embedder_is_refused_with_hint(deployed):
    with pytest.raises(EmbedderNotConfiguredError, match="app") as caught:
        search(deployed, text="cats")
    assert "text-embedding-004" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "kind"), [("", UsageError), (" ", UsageError), ("\udcff", ValueInvalidError)]
)
def test_invalid_text_is_refused_before_embedding(deployed, text, kind):
    with pytest.raises(kind):
        search(deployed, Embedder(kind="command", command=["/nonexistent"]), text=text)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("[1.0] * 384", VectorInvalidError),
        (f"[0.0] * {SIZE}", VectorInvalidError),
        ("'<html>'", EmbedderFailedError),
    ],
)
def test_unusable_embedder_output_is_refused(deployed, output, kind):
    embedder = Embedder(kind="command", command=[sys.executable, "-c", f"print({output})"])
    with pytest.raises(kind):
        search(deployed, embedder, text="cats")


def test_empty_table_has_no_results(tmp_path):
    folder = create_deployment(tmp_path, deployed=True, numbers=range(1))
    lance.lancedb.connect(str(folder / "lancedb")).open_table(TABLE).delete("true")
    assert search(folder, file=json.dumps([1.0] * SIZE).encode()).page.items == []
    with pytest.raises(VectorMissingError):
        search(folder, row="msg-00000")


def test_rows_with_zero_vectors_are_never_found(tmp_path):
    folder = create_deployment(tmp_path, deployed=True, numbers=range(5))
    table = lance.lancedb.connect(str(folder / "lancedb")).open_table(TABLE)
    table.add([{**lance.create_row(70), "vector": [0.0] * SIZE}, {**lance.create_row(71), "vector": None}])
    assert set(list_ids(search(folder, row="msg-00003", limit=50))) == {
        f"msg-{n:05}" for n in (0, 1, 2, 4, 10)
    }
    with pytest.raises(VectorInvalidError, match="are 0"):
        search(folder, row="msg-00070")
    with pytest.raises(VectorMissingError):
        search(folder, row="msg-00071")


def test_rows_with_tiny_vectors_are_never_found(tmp_path):
    folder = create_deployment(tmp_path, deployed=True, numbers=range(5))
    table = lance.lancedb.connect(str(folder / "lancedb")).open_table(TABLE)
    table.add([{**lance.create_row(70), "vector": [number * 1e-30 for number in lance.create_vector(3)]}])
    assert set(list_ids(search(folder, row="msg-00003", limit=50))) == {
        f"msg-{n:05}" for n in (0, 1, 2, 4, 10)
    }


def test_summary_has_columns_of_profile_unless_requested(deployed):
    narrow = search(deployed, row="msg-00003", summary=True).page.column_names
    assert narrow == ["id", "similarity", "role", "content", "timestamp", "chat_title"]
    wide = search(deployed, row="msg-00003").page.column_names
    assert {"chat", "user", "metadata", "stored", "chat_stored"} == {*wide} - {*narrow}
    assert search(deployed, row="msg-00003", summary=True, columns=["user"]).page.column_names == wide


def test_table_files_without_metadata_are_corrupt(tmp_path):
    folder = create_deployment(tmp_path, deployed=True, numbers=range(5))
    shutil.rmtree(folder / f"lancedb/{TABLE}.lance/_versions")
    with pytest.raises(CorruptError, match="has no version"):
        search(folder, row="msg-00003")


def test_missing_folder_and_wrong_tables_are_reported(deployed, tmp_path):
    with pytest.raises(DatabaseMissingError):
        search(tmp_path, row="msg-00003")
    assert not (tmp_path / "lancedb").exists()
    shutil.copy(deployed / "chat.db", tmp_path / "chat.db")
    other = lance.lancedb.connect(str(tmp_path / "lancedb"))
    other.create_table("others", [{"id": "a", "vector": [1.0, 2.0]}])
    with pytest.raises(SchemaMismatchError, match=TABLE):
        search(tmp_path, row="msg-00003")
    other.create_table(TABLE, [{"key": "a", "numbers": [1.0, 2.0]}])
    with pytest.raises(SchemaMismatchError, match="message_id or id"):
        search(tmp_path, row="msg-00003")
    other.create_table(TABLE, [{"id": "a", "embedding": "text"}], mode="overwrite")
    with pytest.raises(SchemaMismatchError, match="vectors"):
        search(tmp_path, row="a")


def test_unconfigured_vectors_are_refused(deployed):
    from dbctl.services.app.session import open_app

    for selection, kind in (
        (Selection(profile="yaai", urls=[f"chat={deployed}/chat.db"]), FeatureMissingError),
        (Selection(profile="chat-lancedb", urls=[f"chat={deployed}/chat.db"]), DatabaseNotConfiguredError),
    ):
        with open_app(selection, timeout=1) as app, pytest.raises(DbctlError) as caught:
            find(app, SemanticRequest(reference=Reference(row="x")))
        assert isinstance(caught.value, kind)


# Doctor -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder():
    """Create a folder that other users can search; those of pytest are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        if not all(above.stat().st_mode & 0o001 for above in Path(folder).parents):
            pytest.skip("temporary folders are closed to other users")
        yield Path(folder)


def test_doctor_checks_embedder_without_request(deployed, tmp_path, open_folder, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    key = open_folder / "key"
    key.write_text("sk-secret-4711\n")
    key.chmod(0o644)

    def run_doctor(text):
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.chat]\nprofile = "chat-lancedb"\n[apps.chat.databases]\nchat = "{deployed}/chat.db"\n'
            f'vectors = "lancedb:{deployed}/lancedb"\n[apps.chat.embedder]\n{text}\n'
        )
        findings = examine([Selection(config=str(tmp_path / "dbctl.toml"))], timeout=1).findings.findings
        assert "sk-secret" not in str(findings)
        return {
            finding.code: finding.message
            for finding in findings
            if "embedder" in finding.code or ("readable" in finding.code and "key" in finding.message)
        }

    assert set(run_doctor('kind = "gemini"\nmodel = "text-embedding-004"')) == {"embedder-key-missing"}
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    assert set(run_doctor('kind = "gemini"\nmodel = "models/text-embedding-004"')) == set()
    assert set(run_doctor('kind = "gemini"\nmodel = "gemini-embedding-001"')) == {"embedder-model-mismatch"}
    exposed = run_doctor(f'kind = "gemini"\nmodel = "text-embedding-004"\nkey_file = "{key}"')
    assert "readable-by-all" in exposed
    assert set(run_doctor('kind = "command"\ncommand = ["no-such-program-here"]')) == {"embedder-missing"}
    assert set(run_doctor('kind = "local"\nmodel = "text-embedding-004"\npackage = "fastembed"')) == {
        "embedder-package-missing"
    }
