"""Drafts of the rules of anonymised copies: each with its evidence; what may be no personal data is a candidate."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import ComparedDatabase, empty_database

SCHEMA = [
    "create table members (id integer primary key, login varchar(40) not null unique, mail varchar(80), passwd varchar(200), bio varchar(200))",
    """create table letters (id varchar(36) primary key, member integer references members (id), contact varchar(80), origin varchar(80),
       page varchar(80), phone varchar(40), city varchar(40), doc varchar(80), state varchar(20), written varchar(40), code varchar(40),
       weight integer, born date, fax_number bigint)""",
    "create table audit_log (id integer primary key, subject varchar(80))",
]
UUID = "0f8fad5b-d9cb-469f-a165-7086728950%02d"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ComparedDatabase]:
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "letters.db") as database:
        database.run(
            *SCHEMA,
            *(
                f"insert into members values ({index}, 'm{index}', 'm{index}@example.org', '$2b$04$O.7LoWoky0s/JQWXvBTrVuxd8vkGtJLc8lQxz443iAncE/jn6kd9.', 'b')"
                for index in range(4)
            ),
            *(
                f"insert into letters values ('{UUID % index}', 1, 'c{index}@example.org', '192.0.2.{index}', 'https://example.org/{index}',"
                f" '1{index}', 'Bern', '{{\"to\": \"c{index}\"}}', 'sent', '2026-01-0{index + 1}T00:00:00.000Z', 'x{index}', 5, '1990-05-05', 493012345)"
                for index in range(6)
            ),
        )
        yield database


def test_rule_has_its_evidence(database: ComparedDatabase, answer: Callable[..., Any]) -> None:
    text = answer("profiles", "draft", database.url, "--name", "letters")["data"]["profile"]
    columns = tomllib.loads(text)["anonymise"]["databases"]["main"]["columns"]
    assert columns == {
        "members.bio": "text",
        "letters.id": "keep",
        "letters.contact": "email",
        "letters.origin": "ip",
        "letters.page": "url",
        "letters.phone": "phone",
        "letters.city": "address",
        "letters.doc": {"kind": "json", "rest": "text"},
        "letters.written": "keep",
        "letters.born": "date",
        "letters.fax_number": "phone",
        "audit_log.subject": "text",
    }
    evidence = dict(re.findall(r'(?m)^"([\w.]+)" = .*# (.*)$', text))
    assert evidence["letters.contact"] == "6 of 6 values are e-mail addresses"
    assert evidence["letters.phone"] == "the name of the column"
    assert evidence["letters.id"] == "6 of 6 keys are UUIDs"
    assert re.search(r'(?m)^# "letters.state" = "keep" +# 1 different value in 6 rows$', text)
    assert re.search(r'(?m)^# audit_log = "empty" +# by its name a log$', text)
    assert re.search(r"(?m)^# without a rule: .*letters\.code", text)


def test_rules_of_a_draft_cover_what_follows_from_its_other_sections(database: ComparedDatabase, answer: Callable[..., Any]) -> None:  # fmt: skip
    answer("profiles", "draft", database.url, "--name", "letters", "--to", "letters.toml")
    app = ["--profile", "letters.toml", "--url", f"main={database.url}"]
    codes = {item["code"] for item in answer(*app, "apps", "check", status=None)["data"]["findings"]}
    assert not codes & {"schema-mismatch", "invalid-entry"}
