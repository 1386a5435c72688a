"""``data show --to``: write the file that a column stores, without and with a profile."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.shapes import chat_lancedb

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TEXT = b64encode(PICTURE).decode()


@pytest.fixture
def chat(tmp_path, monkeypatch, answer):
    """Run a command on the chat app, after storing ``content`` in the attachment ``att-1``."""
    monkeypatch.chdir(tmp_path)
    chat_lancedb.deployed(tmp_path / "chat.db")

    def run(*words, content=None, status=0):
        if content is not None:
            with closing(sqlite3.connect("chat.db", isolation_level=None)) as connection:
                connection.execute("update attachments set data = ? where id = 'att-1'", (content,))
        return answer(
            "--profile", "chat-lancedb", "--url", "chat=chat.db", "data", "show", *words, status=status
        )

    return run


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (TEXT, "image/jpeg"),
        (f"data:image/png;base64,{TEXT}", "image/png"),
        (f"data:image/png;name=a.png;base64,{TEXT}", "image/png"),
        ("\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)), "image/jpeg"),
    ],
)
def test_attachment_is_written_as_original_file(chat, content, kind):
    result = chat("attachments", "att-1", "--to", "bed.jpg", content=content)
    assert Path("bed.jpg").read_bytes() == PICTURE
    assert (result["data"]["name"], result["data"]["content_type"]) == ("bed.jpg", kind)
    assert result["data"]["bytes"] == len(PICTURE)
    assert "2048" in result["warnings"][0], "the row has another size"


def test_data_url_without_base64_is_percent_decoded(chat):
    chat("attachments", "att-1", "--to", "a.txt", content="data:text/plain;charset=utf-8,a%20b%C3%A9")
    assert Path("a.txt").read_bytes() == "a bé".encode()


@pytest.mark.parametrize("content", ["not base64!", "YWJj=YWJj", "data:image/png;base64,é", "YWJ"])
def test_undecodable_content_writes_no_file(chat, content):
    result = chat("attachments", "att-1", "--to", "a", content=content, status=4)
    assert result["error"]["code"] == "content-undecodable"
    assert sorted(Path().glob("*")) == [Path("chat.db")]
    chat("attachments", "att-1", "--to", "a", "--encoding", "plain")
    assert Path("a").read_text(encoding="utf-8") == content


def test_content_is_not_written_over_file_or_without_value(chat):
    Path("there").write_text("mine")
    assert chat("attachments", "att-1", "--to", "there", status=6)["error"]["code"] == "file-exists"
    assert Path("there").read_text() == "mine"
    assert chat("attachments", "att-2", "--to", "none", status=5)["error"]["code"] == "content-null"
    assert chat("attachments", "nope", "--to", "none", status=5)["error"]["code"] == "row-not-found"
    assert chat("chats", chat_lancedb.PYTHON, "--to", "none", status=2)["error"]["code"] == "usage"
    assert not Path("none").exists()
    chat("chats", chat_lancedb.PYTHON, "--columns", "title", "--to", "title.txt")
    assert Path("title.txt").read_text() == "Python Discussion"


def test_secret_content_requires_secrets_option(chat):
    words = ("accounts", "acc-1", "--columns", "access_token", "--to", "token")
    assert chat(*words, status=2)["error"]["code"] == "usage"
    assert not Path("token").exists()
    chat(*words, "--secrets")
    assert Path("token").read_text() == chat_lancedb.TOKEN


@pytest.mark.parametrize(
    "engine",
    ["sqlite", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("postgresql", "mysql"))],
)
def test_content_bytes_are_written_to_standard_output(engine, tmp_path, monkeypatch, answer, start):
    monkeypatch.chdir(tmp_path)
    kind = {"sqlite": "blob", "postgresql": "bytea", "mysql": "longblob"}[engine]
    literal = f"'\\x{PICTURE.hex()}'" if engine == "postgresql" else f"x'{PICTURE.hex()}'"
    script = [f"create table files (id integer primary key, content {kind})", f"insert into files values (1, {literal})"]  # fmt: skip
    create_database = {"postgresql": servers.postgresql_schema, "mysql": servers.mysql_database}.get(engine)
    if create_database is None:
        with closing(sqlite3.connect("files.db", isolation_level=None)) as connection:
            for sql in script:
                connection.execute(sql)
        answer("--url", "files.db", "data", "show", "files", "1", "--columns", "content", "--to", "out")
    else:
        connect = servers.connection if engine == "postgresql" else servers.mysql_connection
        with (
            create_database() as url,
            closing(connect(url)) as connection,
            closing(connection.cursor()) as cursor,
        ):
            for sql in script:
                cursor.execute(sql)
            connection.commit()
            answer(
                "--url",
                servers.text(url),
                "data",
                "show",
                "files",
                "1",
                "--columns",
                "content",
                "--to",
                "out",
            )
    assert Path("out").read_bytes() == PICTURE
