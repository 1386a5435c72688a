"""Schedules mean the same times for cron, systemd and the next start that is shown."""

from __future__ import annotations

import os
import re
import subprocess
import time
from datetime import UTC, datetime

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from dbctl.extensions.schedule.times import (
    find_next_run,
    find_schedule_error,
    list_calendar_events,
    normalize,
)

START = datetime(2026, 11, 22, 19, 30)  # noqa: DTZ001 - schedules have local times
KNOWN = [
    "11 2 * * *",
    "37 4 * * 0",
    "37 4 * * 7",
    "7 */6 * * *",
    "53 5 1 * *",
    "0 12 1,15 * mon",
    "0 12 */10 * 1-5",
    "*/20 0-5,22 * jan-MAR sunday",
    "0 0 29 2 *",
    "5/15 * * * 5-7",
    "0 0 13 * fri",
]


def list_systemd_times(schedule, count):
    """Return the next times of the events, as systemd computes them, without the seconds."""
    times = set()
    for event in list_calendar_events(schedule, 42):
        output = subprocess.run(
            [
                "systemd-analyze",
                "calendar",
                f"--iterations={count}",
                f"--base-time={START:%Y-%m-%d %H:%M}:59",
                event,
            ],
            env={**os.environ, "TZ": "UTC", "LANG": "C"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = [
            line.partition(": ")[2].strip()
            for line in output.splitlines()
            if "Next elapse" in line or "Iter" in line
        ]
        times |= {datetime.strptime(line, "%a %Y-%m-%d %H:%M:42 UTC") for line in lines if line != "never"}  # noqa: DTZ007
    return sorted(times)[:count]


def list_cron_times(schedule, count):
    iterator = CronSim(normalize(schedule), START)
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize("schedule", KNOWN)
def test_normalized_schedule_has_the_same_times_and_no_form_that_cron_refuses(schedule):
    times = CronSim(re.sub("[a-z]+", lambda name: name[0][:3].upper(), schedule, flags=re.IGNORECASE), START)
    assert list_cron_times(schedule, 50) == [next(times) for _ in range(50)]
    assert not re.search(r"[a-z]|(^|[ ,])\d+/", normalize(schedule))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", KNOWN)
def test_systemd_starts_jobs_at_the_times_of_cron(schedule):
    assert list_systemd_times(schedule, 12) == list_cron_times(schedule, 12)


def build_field(least, most):
    number = st.integers(least, most)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    item = st.one_of(
        number.map(str), span, span.flatmap(lambda text: st.integers(1, 9).map(lambda n: f"{text}/{n}"))
    )
    return st.one_of(
        st.just("*"),
        st.integers(2, 9).map("*/{}".format),
        st.lists(item, min_size=1, max_size=3).map(",".join),
    )


@pytest.mark.slow
@given(
    st.tuples(
        build_field(0, 59), build_field(0, 23), build_field(1, 28), build_field(1, 12), build_field(0, 7)
    ).map(" ".join)
)
def test_any_schedule_means_the_same_times(schedule):
    assert find_schedule_error(schedule) == ""
    assert list_systemd_times(schedule, 4) == list_cron_times(schedule, 4)


def test_next_run_is_the_first_start_after_a_time():
    after = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)
    local = after.astimezone()
    start = find_next_run("0 0 1 1 *", after)
    assert (start.astimezone(local.tzinfo).hour, start.year) == (0, 2027)
    assert find_next_run("* * * * *", after).astimezone(UTC) == datetime(2026, 11, 22, 19, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("30 2 * * *", datetime(2026, 3, 29, 0, 40, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (
            "*/15 * * * *",
            datetime(2026, 10, 25, 1, 10, tzinfo=UTC),
            datetime(2026, 10, 25, 1, 15, tzinfo=UTC),
        ),
    ],
)
def test_next_run_is_not_in_the_past_when_the_clock_changes(monkeypatch, schedule, after, expected):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert find_next_run(schedule, after) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("schedule", ["0 0 31 2 *", "0 0 30 feb *"])
def test_schedule_without_times_is_refused(schedule):
    assert find_schedule_error(schedule)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * january mon-friday", "0 0 * 1 1-5"),
        ("*/7 * * * */2", "*/7 * * * */2"),
    ],
)
def test_schedules_are_written_as_every_program_reads_them(schedule, expected):
    assert normalize(schedule) == expected
