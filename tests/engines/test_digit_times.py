"""Times of digits alone: the SQL of each engine reads the same time as ``read_time``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl.config.loader import Selection
from dbctl.engines.contract.database import Condition
from dbctl.profiles.codecs import find_time_form, read_time
from dbctl.services.app.session import open_app
from tests.databases import empty_database

TEXTS = {
    "1709296215": datetime(2024, 3, 1, 12, 30, 15, tzinfo=UTC),
    "1709296215250": datetime(2024, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC),
    "1780010112345": datetime(2026, 5, 28, 23, 15, 12, 345_000, tzinfo=UTC),  # also 23:45 on 1780-01-01
    "20240301123015": datetime(2024, 3, 1, 12, 30, 15, tzinfo=UTC),
    "20241301123015": None,
    "20240301126015": None,
    "202403011230155": None,  # also 23:01:55, after a digit in place of T
    "20240301": None,
}
LIMIT = timedelta(seconds=10)


@pytest.mark.parametrize("text", TEXTS)
def test_digits_are_read_as_a_time(text: str) -> None:
    assert read_time(text) == TEXTS[text]


def test_times_without_separators_have_a_form_of_their_own() -> None:
    assert [find_time_form(text) for text in TEXTS][:4] == ["epoch-s", "epoch-ms", "epoch-ms", "compact"]


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("sqlite", "text"), ("postgresql", "text"), ("mysql", "varchar(20)"), ("mysql", "varbinary(20)")],
)
def test_databases_read_digits_as_a_time(engine: str, kind: str, tmp_path) -> None:
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(f"create table t (id integer primary key, at {kind})")
        for number, text in enumerate(TEXTS):
            database.run(f"insert into t values ({number}, '{text}')")
        with open_app(Selection(urls=[f"main={database.url}"]), timeout=5) as app:
            reader = app.reader("main")
            for number, time in enumerate(TEXTS.values()):
                row, later = (
                    Condition("id", "=", number),
                    (time or datetime(2100, 1, 1, tzinfo=UTC)) + timedelta(days=1),
                )
                assert reader.count("t", [row, Condition("at", "=", time or later)]) == bool(time)
                # with a condition for an index
                assert reader.exists("t", [row, Condition("at", "<", later)], timeout=LIMIT) == bool(time)
                assert reader.exists("t", [row, Condition("at", "<", time or later)], timeout=LIMIT) is False


def test_typed_time_has_the_digits_of_the_stored_ones(answer, tmp_path) -> None:
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            'create table t (id integer primary key, at "timestamp text")',
            "insert into t values (1, '20240301123015'), (2, '20240301123016'), (3, null)",
        )
        options = ("--profile", "plain", "--url", f"main={database.url}")
        assert answer("data", "set", "t", "1", "at=20240301123015", *options)["data"]["effect"] is None
        answer("data", "set", "t", "3", "at=2024-03-01T12:30:15Z", *options)
        assert database.rows("select at from t where id <> 2") == [("20240301123015",)] * 2
        answer("data", "set", "t", "3", "at=now", *options)
        ((written,),) = database.rows("select at from t where id = 3")
        assert find_time_form(written) == "compact"
