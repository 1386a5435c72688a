"""The checks of a server whose log is stored: each finding is that of its cause, and its remedy ends it."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from dbctl.extensions.recover import log_checks
from dbctl.model import now

CODES = {
    "log-slot-missing",
    "log-slot-lost",
    "log-slot-behind",
    "log-unlimited",
    "log-timeline",
    "clock-differs",
}


@pytest.fixture
def find(answer):
    """Return the findings of ``doctor`` about the log, by code."""

    def run():
        findings = answer("doctor", status=None)["data"]["findings"]
        return {finding["code"]: finding for finding in findings if finding["code"] in CODES}

    return run


def run_on(shop, statements):
    with psycopg.connect(shop.server.url, autocommit=True) as connection:
        for statement in statements.rstrip(";").split("; "):
            connection.execute(statement)


def limit(shop, size):
    run_on(shop, f"alter system set max_slot_wal_keep_size = '{size}'; select pg_reload_conf()")


def write_log(shop, segments):
    for _ in range(segments):
        shop.sell(1)
        shop.execute("select pg_switch_wal()")


def test_server_without_a_stored_log_is_not_checked(shop, answer, find):
    assert find() == {}
    answer("backup", "create")
    assert find() == {}


def test_slot_without_a_limit_is_reported_until_it_has_one(shop, answer, find):
    answer("backup", "log")
    finding = find()
    assert list(finding) == ["log-unlimited"]
    run_on(shop, finding["log-unlimited"]["hint"])
    assert find() == {}


def test_missing_slot_is_reported_until_the_log_is_stored(shop, answer, find):
    limit(shop, "1GB")
    answer("backup", "log")
    shop.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    assert list(find()) == ["log-slot-missing"]
    answer("backup", "log", status=None)
    assert find() == {}


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_slot_that_retains_much_and_one_that_lost_log_are_reported(shop, answer, find):
    limit(shop, "96MB")
    answer("backup", "log")
    write_log(shop, 4)
    finding = find()["log-slot-behind"]
    assert "96.0 MiB" in finding["message"]
    answer("backup", "log")
    assert find() == {}
    limit(shop, "16MB")
    write_log(shop, 6)
    shop.execute("checkpoint")
    assert list(find()) == ["log-slot-lost"]
    assert answer("backup", "log", status=4)["error"]["code"] == "log-lost"
    assert "log-slot-lost" not in find()


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_other_timeline_is_reported_until_its_log_is_stored(shop, answer, find):
    limit(shop, "1GB")
    answer("backup", "log")
    shop.sell(1)
    shop.begin_timeline()
    assert list(find()) == ["log-timeline"]
    answer("backup", "log")
    assert find() == {}


@pytest.mark.parametrize(("seconds", "text"), [(60, "behind"), (-60, "ahead of"), (2, "")])
def test_clock_of_the_server_is_compared(shop, answer, find, monkeypatch, seconds, text):
    limit(shop, "1GB")
    answer("backup", "log")
    monkeypatch.setattr(log_checks, "now", lambda: now() + timedelta(seconds=seconds))
    findings = find()
    assert list(findings) == (["clock-differs"] if text else [])
    assert all(text in finding["message"] for finding in findings.values())
