"""Rows by what they mean: as plain arithmetic ranks the same vectors, on both shapes, and every question that is none."""

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

from dbctl.config import Embedder, Selection
from dbctl.engines.lancedb.query.vectors import LanceVectors
from dbctl.errors import (
    AbilityMissingError,
    CorruptError,
    DatabaseMissingError,
    DatabaseUnsetError,
    DbctlError,
    EmbedderFailedError,
    EmbedderUnsetError,
    Exit,
    NobodyMeantError,
    SchemaLacksError,
    UsageError,
    ValueInvalidError,
    VectorInvalidError,
    VectorMissingError,
)
from dbctl.services.app import app as apps
from dbctl.services.doctor import examine
from dbctl.services.search.semantic import vector_input
from dbctl.services.search.semantic.search import MOST, Asked, Like, find
from tests.engines import lance
from tests.engines.lance import SIZE, TABLE
from tests.shapes import chat_lancedb

NUMBERS = range(60)


def made(folder: Path, *, deployed: bool, numbers=NUMBERS) -> Path:
    """Make a deployment: vectors of messages most of which the SQLite file does not know."""
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
    table = lance.made(folder / "lancedb", numbers, deployed=deployed)
    again = lance.row(10, deployed=deployed)  # the app writes some rows several times
    table.add(
        [again, again, {**lance.row(0, deployed=deployed), ("message_id" if deployed else "id"): "_init"}]
    )
    return folder


@pytest.fixture(scope="module", params=["deployed", "document"])
def chat(request, tmp_path_factory):
    return made(tmp_path_factory.mktemp(request.param), deployed=request.param == "deployed")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    return made(tmp_path_factory.mktemp("only"), deployed=True)


def asked(folder, embedder=None, *, brief=False, columns=(), **what):
    selection = Selection(
        profile="chat-lancedb", urls=[f"chat={folder}/chat.db", f"vectors=lancedb:{folder}/lancedb"]
    )
    like = {name: what.pop(name) for name in ("row", "file", "text") if name in what}
    with apps.opened(selection, timeout=2) as app:
        app.configured = structs.replace(app.configured, embedder=embedder)
        return find(app, Asked(like=Like(**like), **what), brief=brief, columns=columns)


def ids(found):
    return [row["id"] for row in found.page.items]


def cosine(one, other):
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(
        math.fsum(a * a for a in one) * math.fsum(b * b for b in other)
    )


def ranked(vector, among=NUMBERS):
    """Return ids as plain arithmetic ranks them, with how near they are."""
    near = {f"msg-{number:05}": cosine(vector, lance.vector(number)) for number in among}
    return sorted(near.items(), key=lambda item: -item[1])


# What is found -----------------------------------------------------------------------------------------------------


def test_rows_like_another_one_come_as_arithmetic_ranks_them_without_that_one(chat):
    found = asked(chat, row="msg-00003", top=10)
    wanted = ranked(lance.vector(3), [n for n in NUMBERS if n != 3])[:10]
    assert ids(found) == [name for name, _ in wanted]
    for row, (_, near) in zip(found.page.items, wanted, strict=True):
        assert row["similarity"] == pytest.approx(near, abs=1e-5)


@pytest.mark.parametrize("form", ["json", "lines", "commas", "bytes", "bom"])
def test_rows_near_a_vector_are_found_in_whichever_form_it_comes(chat, form):
    numbers = [struct.unpack("<f", struct.pack("<f", one))[0] for one in lance.vector(7)]
    raw = {
        "json": json.dumps(numbers).encode(),
        "lines": "\n".join(map(repr, numbers)).encode() + b"\n",
        "commas": ", ".join(map(repr, numbers)).encode(),
        "bytes": struct.pack(f"<{SIZE}f", *numbers),
        "bom": b"\xef\xbb\xbf" + json.dumps(numbers).encode(),
    }[form]
    found = asked(chat, file=raw, top=3)
    assert ids(found) == [name for name, _ in ranked(numbers)[:3]]
    assert found.page.items[0]["similarity"] == pytest.approx(1, abs=1e-5)


def test_words_are_looked_for_through_the_embedder(chat):
    code = f"import sys, json; text = sys.stdin.read(); print(json.dumps([len(text)] + [0] * {SIZE - 1}))"
    embedder = Embedder(kind="command", command=[sys.executable, "-c", code], model="text-embedding-004")
    found = asked(chat, embedder, text="It's about cats", top=4)
    assert ids(found) == [name for name, _ in ranked([1.0] + [0.0] * (SIZE - 1))[:4]]
    assert found.remarks == []


def test_that_two_models_made_the_vectors_is_told(chat):
    code = f"print([1.0] * {SIZE})"
    embedder = Embedder(kind="command", command=[sys.executable, "-c", code], model="other")
    (remark,) = asked(chat, embedder, text="x").remarks
    assert "text-embedding-004" in remark
    assert "other" in remark


def test_filters_choose_rows_before_they_are_compared(chat):
    found = asked(chat, row="msg-00003", top=30, filters={"user": "USER-1", "chat": "chat-2"})
    among = [n for n in NUMBERS if n % 3 == 1 and n % 7 == 2]
    assert ids(found) == [name for name, _ in ranked(lance.vector(3), among)]
    assert {row["user"] for row in found.page.items} == {"USER-1"}


def test_a_smallest_similarity_ends_the_list(chat):
    found = asked(chat, row="msg-00003", top=50, least=0.2)
    assert ids(found) == [
        name for name, near in ranked(lance.vector(3), [n for n in NUMBERS if n != 3]) if near >= 0.2
    ]


def test_where_the_least_alike_is_reached_no_more_rows_are_asked_for(chat, monkeypatch):
    tops, nearest = [], LanceVectors.nearest

    def seen(*words, top, **more):
        tops.append(top)
        return nearest(*words, top=top, **more)

    monkeypatch.setattr(LanceVectors, "nearest", seen)
    assert len(ids(asked(chat, row="msg-00003", top=4, least=0.9))) < 4
    assert len(tops) == 1


def test_more_rows_than_there_are_give_each_once_and_no_placeholder(chat):
    found = asked(chat, row="msg-00010", top=MOST)
    assert sorted(ids(found)) == [f"msg-{number:05}" for number in NUMBERS if number != 10]


def test_what_is_stored_counts_and_what_is_not_is_told_so(chat):
    rows = {row["id"]: row for row in asked(chat, row="msg-00003", top=100).page.items}
    stored, loose = rows["msg-00008"], rows["msg-00009"]
    assert (stored["stored"], stored["content"], stored["chat_stored"]) == (True, "What the file says", True)
    assert stored["timestamp"] == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert stored["chat_title"] == "As it is called now"
    assert (loose["stored"], loose["content"], loose["chat_stored"]) == (False, "It's text 9", False)
    assert loose["timestamp"] == datetime.fromtimestamp(1_700_000_009, tz=UTC)


def test_a_database_that_cannot_be_asked_does_not_hide_what_is_near(deployed, tmp_path):
    shutil.copytree(deployed, tmp_path / "half")
    (tmp_path / "half/chat.db").write_bytes(b"no database" * 1000)
    found = asked(tmp_path / "half", row="msg-00003")
    assert found.status == Exit.PARTIAL
    assert {row["stored"] for row in found.page.items} == {None}
    assert ids(found) == ids(asked(deployed, row="msg-00003"))
    assert any("no SQLite database" in one for one in found.troubles)


def test_without_the_other_database_vectors_are_searched_all_the_same(deployed):
    urls = [f"vectors=lancedb:{deployed}/lancedb"]
    both = [f"chat={deployed}/chat.db", *urls]
    for given, only, number in ((urls, "", 1), (both, "vectors", 0)):
        with apps.opened(Selection(profile="chat-lancedb", urls=given), timeout=1, only=only) as app:
            found = find(app, Asked(like=Like(row="msg-00003")))
        assert ids(found) == ids(asked(deployed, row="msg-00003"))
        assert {row["stored"] for row in found.page.items} == {None}
        assert (found.status, found.troubles, len(found.remarks)) == (Exit.OK, [], number)


def test_a_long_text_is_cut_where_there_is_little_room(tmp_path):
    folder = made(tmp_path, deployed=True, numbers=range(3))
    with closing(sqlite3.connect(folder / "chat.db", isolation_level=None)) as db:
        db.execute("update messages set content = ? where id = 'msg-00008'", ["a\nb " * 500])
        db.execute("update messages set id = 'msg-00001' where id = 'msg-00008'")
    text = {row["id"]: row["content"] for row in asked(folder, row="msg-00002", brief=True).page.items}[
        "msg-00001"
    ]
    assert len(text) < 200
    assert text.endswith("…")
    assert "\n" not in text
    whole = {row["id"]: row["content"] for row in asked(folder, row="msg-00002").page.items}["msg-00001"]
    assert whole == "a\nb " * 500


# What is none ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (json.dumps([0.1] * 384).encode(), "384 numbers"),
        (json.dumps([0] * SIZE).encode(), "points nowhere"),
        (b"[NaN]", "no JSON"),
        (b"[1, 2", "no JSON"),
        (b'{"values": [1]}', "an object"),
        (b'["1"]', "text"),
        (b"[[1]]", "a list"),
        (b"[true]", "true or false"),
        (b"[1e999]", "JSON|too large"),
        (b"nan " * SIZE, "word 1 is no number"),
        (b"1 2 inf", "word 3 is no number"),
        (b"1_0 2", "word 1 is no number"),
        ("١ ٢".encode(), "word 1 is no number"),
        (b"<html>", "word 1 is no number"),
        (struct.pack(f"<{SIZE}f", *[math.nan] * SIZE), "not a number"),
        (struct.pack("<384f", *[1.5] * 384), "no text, and not of 64 bytes"),
        (b"1 " * (3 << 20), "larger than any vector"),
        (b"1 " * 100_000, "more than any model makes"),
        (b"1 " * 17, "17 numbers"),
    ],
)
def test_what_is_no_vector_to_compare_with_is_refused(deployed, raw, why):
    with pytest.raises(VectorInvalidError) as caught:
        asked(deployed, file=raw)
    assert any(word in str(caught.value) for word in why.split("|")), caught.value
    assert caught.value.exit_status == Exit.USAGE
    assert len(str(caught.value)) < 300


def test_bytes_are_no_vector_where_nothing_tells_how_many_numbers_there_are():
    with pytest.raises(VectorInvalidError):
        vector_input.read(struct.pack("<2f", 1.5, -2.5), "x", dimension=None)


@pytest.mark.parametrize("name", ["nope", "", "it's", "x' or '1' = '1", 'a"b', "MSG-00003", "-1", "猫"])
def test_a_row_that_is_not_there_is_told(deployed, name):
    with pytest.raises(VectorMissingError) as caught:
        asked(deployed, row=name)
    assert caught.value.exit_status == Exit.NOT_FOUND


def test_a_message_without_a_vector_is_told_from_one_that_nobody_knows(deployed):
    with pytest.raises(VectorMissingError) as caught:
        asked(deployed, row=chat_lancedb.ASKED)
    assert "chat has it" in caught.value.hint


@pytest.mark.parametrize(
    "filters", [{"user": "USER-nobody"}, {"chat": "it's"}, {"user": "USER-1", "chat": "x"}]
)
def test_a_user_or_a_chat_that_nobody_knows_is_told(deployed, filters):
    with pytest.raises(NobodyMeantError) as caught:
        asked(deployed, row="msg-00003", filters=filters)
    assert caught.value.exit_status == Exit.NOT_FOUND


def test_a_user_without_vectors_has_nothing_that_is_near(deployed):
    assert asked(deployed, row="msg-00003", filters={"user": "USER-quiet"}).page.items == []
    assert (
        asked(deployed, row="msg-00003", filters={"user": "USER-1", "chat": "chat-1"}, least=1).page.items
        == []
    )


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"row": "msg-00001", "text": "x"},
        {"row": "a", "text": "b", "file": b"[1]"},
        {"row": "msg-00001", "top": MOST + 1},
        {"row": "msg-00001", "least": 1.5},
    ],
)
def test_not_exactly_one_thing_to_look_for_is_refused(deployed, what):
    with pytest.raises(UsageError):
        asked(deployed, **what)


def test_words_without_an_embedder_say_what_to_configure(deployed):
    with pytest.raises(EmbedderUnsetError, match="app") as caught:
        asked(deployed, text="cats")
    assert "text-embedding-004" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "kind"), [("", UsageError), (" ", UsageError), ("\udcff", ValueInvalidError)]
)
def test_words_that_are_none_are_refused_before_anybody_is_asked(deployed, text, kind):
    with pytest.raises(kind):
        asked(deployed, Embedder(kind="command", command=["/nonexistent"]), text=text)


@pytest.mark.parametrize(
    ("printed", "kind"),
    [
        ("[1.0] * 384", VectorInvalidError),
        (f"[0.0] * {SIZE}", VectorInvalidError),
        ("'<html>'", EmbedderFailedError),
    ],
)
def test_what_an_embedder_makes_has_to_fit(deployed, printed, kind):
    embedder = Embedder(kind="command", command=[sys.executable, "-c", f"print({printed})"])
    with pytest.raises(kind):
        asked(deployed, embedder, text="cats")


def test_an_empty_table_has_nothing(tmp_path):
    folder = made(tmp_path, deployed=True, numbers=range(1))
    lance.lancedb.connect(str(folder / "lancedb")).open_table(TABLE).delete("true")
    assert asked(folder, file=json.dumps([1.0] * SIZE).encode()).page.items == []
    with pytest.raises(VectorMissingError):
        asked(folder, row="msg-00000")


def test_rows_whose_vectors_point_nowhere_are_never_found_and_cannot_be_compared_with(tmp_path):
    folder = made(tmp_path, deployed=True, numbers=range(5))
    table = lance.lancedb.connect(str(folder / "lancedb")).open_table(TABLE)
    table.add([{**lance.row(70), "vector": [0.0] * SIZE}, {**lance.row(71), "vector": None}])
    assert set(ids(asked(folder, row="msg-00003", top=50))) == {f"msg-{n:05}" for n in (0, 1, 2, 4, 10)}
    with pytest.raises(VectorInvalidError, match="points nowhere"):
        asked(folder, row="msg-00070")
    with pytest.raises(VectorMissingError):
        asked(folder, row="msg-00071")


def test_rows_whose_vectors_are_too_small_to_be_measured_are_no_more_alike_than_others(tmp_path):
    folder = made(tmp_path, deployed=True, numbers=range(5))
    table = lance.lancedb.connect(str(folder / "lancedb")).open_table(TABLE)
    table.add([{**lance.row(70), "vector": [one * 1e-30 for one in lance.vector(3)]}])
    assert set(ids(asked(folder, row="msg-00003", top=50))) == {f"msg-{n:05}" for n in (0, 1, 2, 4, 10)}


def test_a_narrow_table_has_the_columns_that_suit_it_unless_others_are_asked_for(deployed):
    narrow = asked(deployed, row="msg-00003", brief=True).page.names
    assert narrow == ["id", "similarity", "role", "content", "timestamp", "chat_title"]
    wide = asked(deployed, row="msg-00003").page.names
    assert {"chat", "user", "stored", "chat_stored"} == {*wide} - {*narrow}
    assert asked(deployed, row="msg-00003", brief=True, columns=["user"]).page.names == wide


def test_files_of_which_nothing_makes_a_table_are_damage_not_a_lack(tmp_path):
    folder = made(tmp_path, deployed=True, numbers=range(5))
    shutil.rmtree(folder / f"lancedb/{TABLE}.lance/_versions")
    with pytest.raises(CorruptError, match="it has no version"):
        asked(folder, row="msg-00003")


def test_a_folder_that_is_missing_or_holds_another_table_is_told(deployed, tmp_path):
    with pytest.raises(DatabaseMissingError):
        asked(tmp_path, row="msg-00003")
    assert not (tmp_path / "lancedb").exists()
    shutil.copy(deployed / "chat.db", tmp_path / "chat.db")
    other = lance.lancedb.connect(str(tmp_path / "lancedb"))
    other.create_table("others", [{"id": "a", "vector": [1.0, 2.0]}])
    with pytest.raises(SchemaLacksError, match=TABLE):
        asked(tmp_path, row="msg-00003")
    other.create_table(TABLE, [{"key": "a", "numbers": [1.0, 2.0]}])
    with pytest.raises(SchemaLacksError, match="message_id or id"):
        asked(tmp_path, row="msg-00003")
    other.create_table(TABLE, [{"id": "a", "embedding": "text"}], mode="overwrite")
    with pytest.raises(SchemaLacksError, match="vectors"):
        asked(tmp_path, row="a")


def test_an_app_without_vectors_and_one_whose_place_is_not_said_are_told(deployed):
    for selection, kind in (
        (Selection(profile="yaai", urls=[f"chat={deployed}/chat.db"]), AbilityMissingError),
        (Selection(profile="chat-lancedb", urls=[f"chat={deployed}/chat.db"]), DatabaseUnsetError),
    ):
        with apps.opened(selection, timeout=1) as app, pytest.raises(DbctlError) as caught:
            find(app, Asked(like=Like(row="x")))
        assert isinstance(caught.value, kind)


# What is known without asking ----------------------------------------------------------------------------------------


@pytest.fixture
def open_folder():
    """Give a folder that everybody may enter: what pytest makes is closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        if not all(above.stat().st_mode & 0o001 for above in Path(folder).parents):
            pytest.skip("temporary files are closed to others here")
        yield Path(folder)


def test_doctor_tells_what_an_embedder_lacks_and_asks_it_nothing(
    deployed, tmp_path, open_folder, monkeypatch
):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    key = open_folder / "key"
    key.write_text("sk-secret-4711\n")
    key.chmod(0o644)

    def told(text):
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.chat]\nprofile = "chat-lancedb"\n[apps.chat.databases]\nchat = "{deployed}/chat.db"\n'
            f'vectors = "lancedb:{deployed}/lancedb"\n[apps.chat.embedder]\n{text}\n'
        )
        found = examine.examine([Selection(config=str(tmp_path / "dbctl.toml"))], timeout=1).findings.findings
        assert "sk-secret" not in str(found)
        return {
            one.code: one.message
            for one in found
            if "embedder" in one.code or ("readable" in one.code and "key" in one.message)
        }

    assert set(told('kind = "gemini"\nmodel = "text-embedding-004"')) == {"embedder-key-missing"}
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    assert set(told('kind = "gemini"\nmodel = "models/text-embedding-004"')) == set()
    assert set(told('kind = "gemini"\nmodel = "gemini-embedding-001"')) == {"embedder-model-other"}
    exposed = told(f'kind = "gemini"\nmodel = "text-embedding-004"\nkey_file = "{key}"')
    assert "readable-by-all" in exposed
    assert set(told('kind = "command"\ncommand = ["no-such-program-here"]')) == {"embedder-missing"}
    assert set(told('kind = "local"\nmodel = "text-embedding-004"\npackage = "fastembed"')) == {
        "embedder-package-missing"
    }
