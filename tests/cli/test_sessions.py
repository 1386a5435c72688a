"""``dbctl sessions`` on the command line."""

from __future__ import annotations

import json

import pytest

from dbctl.cli.main import main
from tests.services import flashpoint_app
from tests.services.flashpoint_app import query_rows, read_all_rows, run_statements


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    path = flashpoint_app.create_app(tmp_path, request.param)
    run_statements(
        path,
        "update user_game_plays set started_at = iif(id % 2, '2024-01-01 10:00:00', '2024-01-01T10:00:00.000Z')",
    )
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def dbctl(capsys):
    def run(*words):
        status = main([*words, "-o", "json"])
        response = json.loads(capsys.readouterr().out)
        return status, response["error"] or response["data"]

    return run


def test_cleanup_check_exits_3_before_and_0_after(path, dbctl):
    before = read_all_rows(path)
    status, result = dbctl("sessions", "cleanup", "--check")
    assert status == 3
    assert {item["rule"]: item["matched"] for item in result["items"]}["abandoned-plays"] == 2
    assert read_all_rows(path) == before
    status, result = dbctl("sessions", "cleanup")
    assert status == 0
    first = result["rules"][0]
    assert set(first) == {"rule", "matched", "changed", "batches", "longest_lock"}
    assert (first["rule"], first["matched"], first["changed"], first["batches"]) == (
        "abandoned-plays",
        2,
        2,
        1,
    )
    assert 0 < first["longest_lock"] < 60
    assert dbctl("sessions", "cleanup", "--check")[0] == 0


def test_dry_run_shows_plan_and_changes_nothing(path, dbctl):
    before = read_all_rows(path)
    status, result = dbctl("sessions", "cleanup", "--dry-run", "--rule", "abandoned-plays")
    assert (status, result["plan"]["rows"], result["plan"]["destructive"]) == (
        0,
        {"user_game_plays": 2},
        False,
    )
    assert read_all_rows(path) == before
    assert dbctl("sessions", "cleanup", "--dry-run", "--check")[0] == 2


def test_quiet_cleanup_without_terminal_writes_nothing(path, capsys):
    assert main(["sessions", "cleanup", "--fast", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert query_rows(path, "select count(*) from user_game_plays where ended_at is null") == [(0,)]


RULES = ("abandoned-plays", "expired-tokens", "revoked-tokens", "login-attempts", "activity-logs", "job-logs")
NO_AGES = {
    "0h": "in use",
    "0s": "in use",
    "000000000y": "in use",
    "-36h": "not a duration",
    "36": "not a duration",
    "h": "not a duration",
    "": "not a duration",
    " ": "not a duration",
    "1.5h": "not a duration",
    "1e3d": "not a duration",
    "0x10d": "not a duration",
    "1_000d": "not a duration",
    "1d12h": "not a duration",
    "36H": "not a duration",
    "soon": "not a duration",
    "nan": "not a duration",
    "infd": "not a duration",
    "٣٦h": "not a duration",
    "³h": "not a duration",
    "1001y": "not a duration",
    "999999y": "not a duration",
    "999999999y": "not a duration",
    "9" * 5000 + "d": "not a duration",
    "36h; drop table users": "not a duration",
}


@pytest.mark.parametrize("age", NO_AGES, ids=lambda age: ascii(age)[:20])
def test_invalid_age_is_refused_for_every_rule(path, dbctl, age):
    before = read_all_rows(path)
    for rule in RULES:
        status, result = dbctl("sessions", "cleanup", "--rule", rule, f"--older-than={age}")
        assert (status, NO_AGES[age] in result["message"]) == (2, True), result
    assert read_all_rows(path) == before


@pytest.mark.parametrize("age", ["1s", "1h", "239m"])
def test_age_that_ends_play_in_future_is_refused(path, dbctl, age):
    before = read_all_rows(path)
    status, result = dbctl("sessions", "cleanup", "--rule", "abandoned-plays", "--older-than", age)
    assert (status, result["code"]) == (2, "usage"), result
    assert read_all_rows(path) == before


@pytest.mark.parametrize("age", ["900y", "1000y", "999999999s"])
def test_huge_age_matches_no_row(path, dbctl, age):
    before = read_all_rows(path)
    tables = {table for (table,) in query_rows(path, "select name from sqlite_master")}
    for rule in RULES[:-1] if "job_execution_logs" not in tables else RULES:
        for words in (["--check"], ["--dry-run"], ["--fast"], []):
            status, result = dbctl("sessions", "cleanup", "--rule", rule, "--older-than", age, *words)
            assert status == 0, result
    assert read_all_rows(path) == before


def test_unknown_cleanup_rule_exits_5(path, dbctl):
    status, result = dbctl("sessions", "cleanup", "--rule", "nonsense")
    assert (status, result["code"]) == (5, "rule-missing")
    assert "abandoned-plays" in result["hint"]


def test_rebuild_stats_confirms_lower_values(path, dbctl, capsys):
    # the statistics of the user count 7 sessions, but none has ended
    assert dbctl("sessions", "rebuild-stats", "--dry-run")[1]["plan"]["rows"] == {"user_stats": 1}
    before = read_all_rows(path)
    status, result = dbctl("sessions", "rebuild-stats")
    assert (status, result["code"]) == (6, "confirmation-missing")
    assert read_all_rows(path) == before
    assert main(["sessions", "rebuild-stats", "--yes", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert query_rows(path, "select total_sessions, first_play_at from user_stats where user_id = 2") == [
        (0, "2024-02-02T00:00:00.000Z")
    ]
    status, result = dbctl("sessions", "rebuild-stats", "--user", "ann")
    assert (status, [item["lowered"] for item in result["tables"]]) == (0, [0, 0])
    assert dbctl("sessions", "rebuild-stats", "--user", "nobody")[0] == 5
