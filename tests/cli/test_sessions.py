"""``dbctl sessions`` as a person or cron types it."""

from __future__ import annotations

import json

import pytest

from dbctl.cli.main import main
from tests.services import flashpoint_app
from tests.services.flashpoint_app import content, rows, run


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    path = flashpoint_app.settle(tmp_path, request.param)
    run(
        path,
        "update user_game_plays set started_at = iif(id % 2, '2024-01-01 10:00:00', '2024-01-01T10:00:00.000Z')",
    )
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def dbctl(capsys):
    def typed(*words):
        status = main([*words, "-o", "json"])
        told = json.loads(capsys.readouterr().out)
        return status, told["error"] or told["data"]

    return typed


def test_check_gives_3_before_and_0_after_and_writes_nothing(path, dbctl):
    before = content(path)
    status, told = dbctl("sessions", "cleanup", "--check")
    assert status == 3
    assert {one["rule"]: one["matched"] for one in told["items"]}["abandoned-plays"] == 2
    assert content(path) == before
    status, told = dbctl("sessions", "cleanup")
    assert status == 0
    first = told["rules"][0]
    assert set(first) == {"rule", "matched", "changed", "batches", "longest_lock"}
    assert (first["rule"], first["matched"], first["changed"], first["batches"]) == (
        "abandoned-plays",
        2,
        2,
        1,
    )
    assert 0 < first["longest_lock"] < 60
    assert dbctl("sessions", "cleanup", "--check")[0] == 0


def test_a_dry_run_shows_the_plan_and_changes_nothing(path, dbctl):
    before = content(path)
    status, told = dbctl("sessions", "cleanup", "--dry-run", "--rule", "abandoned-plays")
    assert (status, told["plan"]["rows"], told["plan"]["destructive"]) == (0, {"user_game_plays": 2}, False)
    assert content(path) == before
    assert dbctl("sessions", "cleanup", "--dry-run", "--check")[0] == 2


def test_cron_hears_nothing_and_no_terminal_is_needed(path, capsys):
    assert main(["sessions", "cleanup", "--fast"]) == 0
    assert capsys.readouterr() == ("", "")
    assert rows(path, "select count(*) from user_game_plays where ended_at is null") == [(0,)]


RULES = ("abandoned-plays", "expired-tokens", "revoked-tokens", "login-attempts", "activity-logs", "job-logs")
NO_AGES = {
    "0h": "in use",
    "0s": "in use",
    "000000000y": "in use",
    "-36h": "no length of time",
    "36": "no length of time",
    "h": "no length of time",
    "": "no length of time",
    " ": "no length of time",
    "1.5h": "no length of time",
    "1e3d": "no length of time",
    "0x10d": "no length of time",
    "1_000d": "no length of time",
    "1d12h": "no length of time",
    "36H": "no length of time",
    "soon": "no length of time",
    "nan": "no length of time",
    "infd": "no length of time",
    "٣٦h": "no length of time",
    "³h": "no length of time",
    "1001y": "no length of time",
    "999999y": "no length of time",
    "999999999y": "no length of time",
    "9" * 5000 + "d": "no length of time",
    "36h; drop table users": "no length of time",
}


@pytest.mark.parametrize("age", NO_AGES, ids=lambda age: ascii(age)[:20])
def test_an_age_that_is_none_is_refused_whatever_the_rule_and_nothing_touched(path, dbctl, age):
    before = content(path)
    for rule in RULES:
        status, told = dbctl("sessions", "cleanup", "--rule", rule, f"--older-than={age}")
        assert (status, NO_AGES[age] in told["message"]) == (2, True), told
    assert content(path) == before


@pytest.mark.parametrize("age", ["1s", "1h", "239m"])
def test_an_age_at_which_a_play_would_end_in_the_future_is_refused(path, dbctl, age):
    before = content(path)
    status, told = dbctl("sessions", "cleanup", "--rule", "abandoned-plays", "--older-than", age)
    assert (status, "younger" in told["message"]) == (2, True), told
    assert content(path) == before


@pytest.mark.parametrize("age", ["900y", "1000y", "999999999s"])
def test_a_huge_age_finds_nothing_whatever_the_rule(path, dbctl, age):
    before = content(path)
    has = {table for (table,) in rows(path, "select name from sqlite_master")}
    for rule in RULES[:-1] if "job_execution_logs" not in has else RULES:
        for words in (["--check"], ["--dry-run"], ["--fast"], []):
            status, told = dbctl("sessions", "cleanup", "--rule", rule, "--older-than", age, *words)
            assert status == 0, told
    assert content(path) == before


def test_a_rule_that_the_app_does_not_have_is_not_found(path, dbctl):
    status, told = dbctl("sessions", "cleanup", "--rule", "nonsense")
    assert (status, told["code"]) == (5, "rule-missing")
    assert "abandoned-plays" in told["hint"]


def test_statistics_are_counted_anew_and_a_figure_that_falls_is_asked_for(path, dbctl, capsys):
    # the sample's user has 7 sessions by the figures, and none that has ended
    assert dbctl("sessions", "rebuild-stats", "--dry-run")[1]["plan"]["rows"] == {"user_stats": 1}
    before = content(path)
    status, told = dbctl("sessions", "rebuild-stats")
    assert (status, told["code"]) == (6, "confirmation-missing")
    assert content(path) == before
    assert main(["sessions", "rebuild-stats", "--yes"]) == 0
    assert capsys.readouterr() == ("", "")
    assert rows(path, "select total_sessions, first_play_at from user_stats where user_id = 2") == [
        (0, "2024-02-02T00:00:00.000Z")
    ]
    status, told = dbctl("sessions", "rebuild-stats", "--user", "ann")
    assert (status, [one["lowered"] for one in told["tables"]]) == (0, [0, 0])
    assert dbctl("sessions", "rebuild-stats", "--user", "nobody")[0] == 5
