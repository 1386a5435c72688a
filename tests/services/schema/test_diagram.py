"""Diagrams, as Mermaid reads them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests import external_tools, servers

NAMES = [
    'a"b',
    "%%{init: {}}%%",
    "back\\slash",
    "pk",
    "FK-1",
    "1st",
    "new\nline",
    "direction TB",
    "style a:b#c;",
    "erDiagram",
    "one or more",
    "}",
    "",
    "漢字 🎉",
    "a'b",
    "~x~",
]


@pytest.fixture(scope="module")
def parse():
    """Return a function that returns what Mermaid reads in a diagram."""
    parser = external_tools.mermaid()
    if parser is None:
        servers.skip_or_fail("npm cannot install Mermaid here")

    def run(text):
        process = subprocess.run(
            parser.command,
            cwd=parser.folder,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return run


@pytest.fixture
def draw(tmp_path, answer):
    """Return a function that creates a database, and returns its diagram."""

    def run(statements, *words):
        path = tmp_path / "tables.db"
        with closing(sqlite3.connect(path)) as db:
            for sql in statements:
                db.execute(sql)
        return answer("--url", str(path), "schema", "diagram", *words)["data"]

    return run


CARDINALITIES = [
    "create table users (id integer primary key, mail text unique)",
    "create table profiles (user_id integer primary key references users (id))",
    "create table posts (id integer primary key, author integer not null references USERS (id), editor integer references users)",
    (
        "create table grants (user integer, post integer, primary key (user, post), foreign key (user) references users (id),"
        " foreign key (post) references posts (id))"
    ),
    (
        "create table votes (id integer primary key, user integer not null, post integer not null,"
        " foreign key (user, post) references grants (user, post))"
    ),
    "create unique index votes_once on votes (user, post)",
    "create table dangling (id integer primary key, other integer not null references missing (id))",
]


@pytest.mark.slow
def test_cardinalities_follow_from_keys_and_null(parse, draw):
    diagram = draw(CARDINALITIES)
    result = parse(diagram["mermaid"])
    assert {tuple(relation) for relation in result["relations"]} == {
        ("users", "ONLY_ONE", "IDENTIFYING", "ZERO_OR_ONE", "profiles", "user_id"),
        ("users", "ONLY_ONE", "NON_IDENTIFYING", "ZERO_OR_MORE", "posts", "author"),
        ("users", "ZERO_OR_ONE", "NON_IDENTIFYING", "ZERO_OR_MORE", "posts", "editor"),
        ("users", "ZERO_OR_ONE", "IDENTIFYING", "ZERO_OR_MORE", "grants", "user"),
        ("posts", "ZERO_OR_ONE", "IDENTIFYING", "ZERO_OR_MORE", "grants", "post"),
        ("grants", "ONLY_ONE", "NON_IDENTIFYING", "ZERO_OR_ONE", "votes", "user, post"),
        ("missing", "ONLY_ONE", "NON_IDENTIFYING", "ZERO_OR_MORE", "dangling", "other"),
    }
    assert diagram["relations"] == len(result["relations"])
    assert diagram["tables"] == len(result["entities"])
    keys = {column["name"]: column["keys"] for column in result["entities"]["grants"]}
    assert keys == {"user": ["PK", "FK"], "post": ["PK", "FK"]}
    assert [column["keys"] for column in result["entities"]["users"]] == [["PK"], ["UK"]]


@pytest.mark.slow
def test_hostile_names_remain_one_entity_each(parse, draw):
    quoted = ['"' + name.replace('"', '""') + '"' for name in NAMES]
    statements = [
        f"create table {name} (id integer primary key, {column} {column} references {other} (id))"
        for name, column, other in zip(quoted, quoted[::-1], [*quoted[1:], quoted[0]], strict=True)
        if name != '""'
    ]
    diagram = draw([sql for sql in statements if '""' not in sql.replace('a""b', "")])
    result = parse(diagram["mermaid"])
    assert (len(result["entities"]), len(result["relations"])) == (diagram["tables"], diagram["relations"])
    assert diagram["relations"] > len(NAMES) // 2


def test_selected_tables_are_drawn_with_their_neighbors(draw):
    text = draw(CARDINALITIES, "profiles")["mermaid"]
    assert ('"users"' in text, '"posts"' in text, "mail" in text, "user_id PK, FK" in text) == (
        True,
        False,
        False,
        True,
    )
    assert "mail" not in draw([], "users", "--keys")["mermaid"].replace("mail UK", "")


def test_missing_table_is_refused(draw, answer, tmp_path):
    draw(CARDINALITIES)
    response = answer("--url", str(tmp_path / "tables.db"), "schema", "diagram", "user", status=5)
    assert response["error"]["code"] == "table-missing"
