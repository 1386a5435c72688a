"""Which backups the rules of retention retain, and why: the periods are those of the calendar in UTC, weeks those of ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl import model
from dbctl.config.model import Retention
from dbctl.services.backup.retention import rules
from dbctl.services.backup.retention.rules import Candidate

#: Rules, and the backups (newest first) with the reasons for retaining them; empty: not retained.
CASES = {
    "without rules all are retained": (
        Retention(),
        [("2025-01-02 10:00", "the newest"), ("2020-01-01 10:00", "within the limits")],
    ),
    "limits of space retain all": (
        Retention(max_bytes="1G", min_free="1G"),
        [("2025-01-02 10:00", "the newest"), ("2020-01-01 10:00", "within the limits")],
    ),
    "no backups": (Retention(last=2, yearly=2), []),
    "last counts backups, also of the same minute": (
        Retention(last=2),
        [
            ("2025-01-02 10:00:30", "the newest, one of the last 2"),
            ("2025-01-02 10:00:00", "one of the last 2"),
            ("2025-01-01 10:00:00", ""),
        ],
    ),
    "fewer backups than last": (
        Retention(last=5),
        [("2025-01-02 10:00", "the newest, one of the last 5"), ("2020-01-01 10:00", "one of the last 5")],
    ),
    "hourly retains the newest of each hour that has a backup": (
        Retention(hourly=3),
        [
            ("2025-01-01 10:59:59", "the newest, hourly"),
            ("2025-01-01 10:30:00", ""),
            ("2025-01-01 10:00:00", ""),
            ("2025-01-01 09:59:59", "hourly"),
            ("2025-01-01 09:00:00", ""),
            ("2025-01-01 03:15:00", "hourly"),
            ("2025-01-01 02:15:00", ""),
        ],
    ),
    "the same hour of other days is another hour": (
        Retention(hourly=4),
        [
            ("2025-01-01 00:05", "the newest, hourly"),
            ("2024-12-31 00:05", "hourly"),
            ("2024-12-01 00:05", "hourly"),
            ("2023-12-01 00:05", "hourly"),
        ],
    ),
    "hours at the turn of the year": (
        Retention(hourly=2),
        [
            ("2025-01-01 00:00:00", "the newest, hourly"),
            ("2024-12-31 23:59:59", "hourly"),
            ("2024-12-31 23:00:00", ""),
        ],
    ),
    "daily retains the newest of each day that has a backup": (
        Retention(daily=3),
        [
            ("2025-01-01 23:59:59", "the newest, daily"),
            ("2025-01-01 12:00:00", ""),
            ("2025-01-01 00:00:00", ""),
            ("2024-12-31 23:59:59", "daily"),
            ("2024-12-31 00:00:00", ""),
            ("2024-12-01 08:00:00", "daily"),
            ("2024-11-30 08:00:00", ""),
        ],
    ),
    "the same day of other months and years is another day": (
        Retention(daily=3),
        [
            ("2025-01-15 08:00", "the newest, daily"),
            ("2024-12-15 08:00", "daily"),
            ("2023-12-15 08:00", "daily"),
        ],
    ),
    "the leap day is a day of its own": (
        Retention(daily=3),
        [
            ("2024-03-01 00:00", "the newest, daily"),
            ("2024-02-29 23:59", "daily"),
            ("2024-02-29 00:00", ""),
            ("2024-02-28 23:59", "daily"),
        ],
    ),
    "weeks begin on Monday": (
        Retention(weekly=3),
        [
            ("2025-01-13 00:00", "the newest, weekly"),  # Monday
            ("2025-01-12 23:59", "weekly"),  # Sunday
            ("2025-01-11 12:00", ""),
            ("2025-01-06 00:00", ""),  # Monday
            ("2025-01-05 23:59", "weekly"),  # Sunday
            ("2024-12-29 23:59", ""),
        ],
    ),
    "week 1 of 2025 begins in 2024": (
        Retention(weekly=3),
        [
            ("2025-01-05 10:00", "the newest, weekly"),
            ("2025-01-01 10:00", ""),
            ("2024-12-31 10:00", ""),
            ("2024-12-30 10:00", ""),
            ("2024-12-29 10:00", "weekly"),  # week 52
            ("2024-01-01 10:00", "weekly"),  # week 1 of 2024
        ],
    ),
    "week 53 of 2020 ends in 2021": (
        Retention(weekly=3),
        [
            ("2021-01-04 00:00", "the newest, weekly"),  # week 1
            ("2021-01-03 23:59", "weekly"),
            ("2021-01-01 10:00", ""),
            ("2020-12-31 10:00", ""),
            ("2020-12-28 00:00", ""),
            ("2020-12-27 23:59", "weekly"),  # week 52
        ],
    ),
    "the same week of another year is another week": (
        Retention(weekly=3),
        [
            ("2025-03-05 10:00", "the newest, weekly"),  # week 10 of each year
            ("2024-03-06 10:00", "weekly"),
            ("2023-03-08 10:00", "weekly"),
        ],
    ),
    "monthly retains the newest of each month that has a backup": (
        Retention(monthly=3),
        [
            ("2025-03-01 00:00", "the newest, monthly"),
            ("2025-02-28 23:59", "monthly"),
            ("2025-02-01 00:00", ""),
            ("2024-11-30 10:00", "monthly"),
            ("2024-10-31 10:00", ""),
        ],
    ),
    "months at the turn of the year, and the same month of another year": (
        Retention(monthly=4),
        [
            ("2025-01-01 00:00", "the newest, monthly"),
            ("2024-12-31 23:59", "monthly"),
            ("2024-12-30 10:00", ""),
            ("2024-12-01 10:00", ""),  # another ISO year than the days before
            ("2024-01-01 10:00", "monthly"),
            ("2023-12-31 10:00", "monthly"),
        ],
    ),
    "the leap day is in February": (
        Retention(monthly=3),
        [
            ("2024-03-01 00:00", "the newest, monthly"),
            ("2024-02-29 23:59", "monthly"),
            ("2024-02-28 23:59", ""),
            ("2024-01-31 23:59", "monthly"),
        ],
    ),
    "yearly retains the newest of each year that has a backup": (
        Retention(yearly=3),
        [
            ("2025-06-01 10:00", "the newest, yearly"),
            ("2025-01-01 00:00", ""),
            ("2024-12-31 23:59", "yearly"),  # ISO year 2025
            ("2024-12-29 10:00", ""),
            ("2024-01-01 00:00", ""),
            ("2021-01-01 00:00", "yearly"),  # ISO year 2020
            ("2020-12-31 23:59", ""),
        ],
    ),
    "fewer backups than periods": (
        Retention(hourly=9, daily=9, weekly=9, monthly=9, yearly=9),
        [
            ("2025-01-01 10:00", "the newest, hourly, daily, weekly, monthly, yearly"),
            ("2024-12-31 10:00", "hourly, daily, monthly, yearly"),
        ],
    ),
    "each period counts separately": (
        Retention(last=1, hourly=2, daily=2, weekly=2, monthly=2, yearly=2),
        [
            ("2025-01-01 10:30", "the newest, one of the last 1, hourly, daily, weekly, monthly, yearly"),
            ("2025-01-01 10:00", ""),
            ("2025-01-01 09:00", "hourly"),
            ("2025-01-01 08:00", ""),
            ("2024-12-31 10:00", "daily, monthly, yearly"),
            ("2024-12-30 10:00", ""),
            ("2024-12-29 10:00", "weekly"),
            ("2024-11-30 10:00", ""),
            ("2023-12-31 10:00", ""),
        ],
    ),
    "a count of 1 retains only the newest": (
        Retention(yearly=1),
        [("2025-01-02 10:00", "the newest, yearly"), ("2024-01-02 10:00", "")],
    ),
    "of equal times the first is retained": (
        Retention(hourly=2, daily=2, weekly=2, monthly=2, yearly=2),
        [
            ("2025-01-02 10:00", "the newest, hourly, daily, weekly, monthly, yearly"),
            ("2025-01-02 10:00", ""),
            ("2023-05-02 10:00", "hourly, daily, weekly, monthly, yearly"),
            ("2023-05-02 10:00", ""),
        ],
    ),
    "last counts each of equal times": (
        Retention(last=2, daily=1),
        [
            ("2025-01-02 10:00", "the newest, one of the last 2, daily"),
            ("2025-01-02 10:00", "one of the last 2"),
            ("2025-01-02 10:00", ""),
        ],
    ),
    "times with another offset are in the period of their UTC time": (
        Retention(hourly=2, daily=2, weekly=2, monthly=2, yearly=2),
        [
            ("2025-01-01 01:30+02:00", "the newest, hourly, daily, weekly, monthly, yearly"),
            ("2024-12-31 23:10", ""),
            ("2024-12-31 18:40-04:00", "hourly"),
            ("2024-12-31 22:30", ""),
            ("2024-12-30 01:59+02:00", "daily, weekly"),
        ],
    ),
}


def parse_time(text: str) -> datetime:
    """Parse a time; without an offset it is in UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def list_reasons(times: list[datetime], retention: Retention) -> list[str]:
    """Return the reasons for each backup of one series, joined; empty: it is not retained."""
    candidates = [
        Candidate(id=str(index), created_at=time, series=["shop"]) for index, time in enumerate(times)
    ]
    reasons = rules.retention_reasons(candidates, retention)
    assert all(reasons.values()), "a retained backup without a reason"
    return [", ".join(reasons.get(candidate.id, [])) for candidate in candidates]


@pytest.mark.parametrize("case", CASES)
def test_rules_retain_the_newest_backup_of_each_period(case):
    retention, backups = CASES[case]
    times = [parse_time(text) for text, _ in backups]
    assert times == sorted(times, reverse=True)
    retained = list_reasons(times, retention)
    assert list(zip([text for text, _ in backups], retained, strict=True)) == backups


def test_periods_are_counted_per_series():
    specs = [
        ("2025-01-01 10:00", ["shop"]),
        ("2024-12-31 10:00", ["shop", "logs"]),
        ("2024-12-30 10:00", ["logs"]),
        ("2024-12-29 10:00", ["shop"]),
    ]
    candidates = [Candidate(id=text, created_at=parse_time(text), series=series) for text, series in specs]
    assert rules.retention_reasons(candidates, Retention(weekly=1, yearly=2)) == {
        "2025-01-01 10:00": ["the newest", "weekly", "yearly"],  # of shop
        "2024-12-31 10:00": ["yearly", "the newest", "weekly"],  # of shop, then of logs
    }


def test_within_counts_from_now_and_the_future_is_not_counted():
    timestamp = model.now()
    ages = [timedelta(days=-1), timedelta(hours=30), timedelta(hours=47), timedelta(hours=49)]
    assert list_reasons([timestamp - age for age in ages], Retention(last=1, within="2d")) == [
        rules.FUTURE,
        "the newest, one of the last 1, within 2d",
        "within 2d",
        "",
    ]
