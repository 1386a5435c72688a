"""Arrays, and documents that are a number or a word, in anonymised copies of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.databases import PostgreSQL

PROFILE = """
schema = "dbctl.profile/1"
name = "letters"
title = "Letters"
[databases.main]
engines = ["postgresql"]
[anonymise.databases.main.columns]
"*.tags" = "text"
"*.mails" = "email"
"*.doc" = "text"
"*.raw" = { kind = "json", rest = "text" }
"""


@pytest.mark.slow
def test_elements_of_arrays_and_documents_without_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letters.toml").write_text(PROFILE)
    with servers.postgresql_database(encoding="UTF8") as source, servers.postgresql_database(encoding="UTF8") as target:  # fmt: skip
        database, copied = PostgreSQL(source), PostgreSQL(target)
        database.run(
            "create table letters (id integer primary key, tags text[], mails varchar(60)[] not null, doc jsonb, raw text, mail varchar(60))",
            "insert into letters values (1, array['garden', '', 'a b', null], '{ida@example.org}', 'null', '20.25', 'x'),"
            """ (2, null, '{}', '{"to": "Ida Ring", "n": 3}', 'true', 'x'), (3, '{}', '{ida@example.org,bo@example.org}', '7', '491512345678', 'x')""",
        )
        app = ["--profile", "letters.toml", "--url", f"main={database.url}"]
        answer(*app, "copy", "--from", "live", "--to", f"main={copied.url}", "--anonymise", "--keep", "letters.mail", "--replace", "--yes")  # fmt: skip
        rows = copied.rows("select tags, mails, doc::text, raw from letters order by id")
    (tags, mails, doc, raw), second, third = rows
    assert (tags[1], tags[3], len(tags)) == ("", None, 4)
    assert tags[0].startswith("Text ")
    assert mails == [third[1][0]]
    assert mails[0].endswith(".invalid")
    assert (doc, raw, second[3], third[2]) == ("null", "20.25", "true", "7")
    assert (second[0], second[1]) == (None, [])
    assert '"n": 3' in second[2]
    assert "Ida" not in second[2]
    assert third[3].startswith("Text ")  # it may be a telephone number
