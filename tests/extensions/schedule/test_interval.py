"""Backups at a short interval: the times of their job, what it requires, and what the retention leaves of a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl import model
from tests.services.backup.test_increments import change, configure, create, small  # noqa: F401 - a fixture

KEEP = "keep = { hourly = 6, daily = 7 }"
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def app(small):  # noqa: F811
    configure(small.folder, KEEP)
    return small


def set_schedule(app, **values):
    configure(
        app.folder, "[apps.larder.schedule]", *(f'{name} = "{value}"' for name, value in values.items())
    )


def edit(app, old, new):
    file = app.folder / "dbctl.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def read_schedule(answer):
    jobs = answer("schedule", "cron")["data"]["items"]
    return next((job["schedule"] for job in jobs if job["name"] == "backup"), None)


@pytest.mark.parametrize(
    ("every", "schedule"),
    [
        ("15m", "*/15 * * * *"),
        ("900s", "*/15 * * * *"),
        ("1m", "*/1 * * * *"),
        ("1h", "11 */1 * * *"),
        ("60m", "11 */1 * * *"),
        ("6h", "11 */6 * * *"),
    ],
)
def test_interval_is_a_schedule(answer, app, every, schedule):
    set_schedule(app, every=every)
    assert read_schedule(answer) == schedule
    units = answer("schedule", "systemd")["data"]["items"]
    (timer,) = [unit for unit in units if (unit["job"], bool(unit["schedule"])) == ("backup", True)]
    assert "OnCalendar=" in timer["text"]


@pytest.mark.parametrize(
    "every", ["7m", "90m", "5h", "1d", "24h", "2d", "30s", "0m", "soon", "-1m", "15", "15 m"]
)
def test_interval_without_schedule_is_refused(answer, app, every):
    set_schedule(app, every=every)
    assert "must be a multiple of it" in answer("schedule", "cron", status=2)["error"]["message"]


def test_interval_requires_incremental_backups_with_a_retention(answer, app):
    set_schedule(app, every="15m")
    edit(app, KEEP, "")
    assert "no rule deletes backups" in answer("schedule", "cron", status=2)["error"]["message"]
    edit(app, "incremental = true", "")
    assert "each backup would be a full copy" in answer("schedule", "cron", status=2)["error"]["message"]


def test_interval_and_time_exclude_each_other(answer, app):
    set_schedule(app, every="15m", backup="0 1 * * *")
    assert "backup is also set" in answer("schedule", "cron", status=2)["error"]["message"]


def test_interval_requires_a_repository(answer, app):
    file = app.folder / "dbctl.toml"
    file.write_text(file.read_text().partition("[apps.larder.backup]")[0])
    set_schedule(app, every="15m")
    assert "has no such job" in answer("schedule", "cron", status=2)["error"]["message"]


@pytest.mark.parametrize("key", ['every = "15m"', 'prune = "0 2 * * *"'])
def test_default_of_a_job_that_an_app_lacks_is_not_its_job(answer, app, key):
    file = app.folder / "dbctl.toml"
    file.write_text(f"{file.read_text().partition('[apps.larder.backup]')[0]}\n[defaults.schedule]\n{key}\n")
    jobs = answer("schedule", "status")["data"]["items"]
    assert not {"backup", "prune"} & {job["name"] for job in jobs}


@pytest.mark.parametrize("url", ["postgresql://localhost/larder", "sqlite:/srv/larder.db?via=ssh:host"])
def test_interval_requires_files_of_this_machine(answer, app, url):
    edit(app, '"larder.db"', f'"{url}"')
    set_schedule(app, every="15m")
    assert "is no SQLite file of this machine" in answer("schedule", "cron", status=2)["error"]["message"]


class Clock:
    """Replaces ``datetime`` of ``dbctl.model``, where the project reads the time."""

    time = BEGIN

    def now(self, zone):
        return self.time.astimezone(zone)


@pytest.mark.slow
def test_retention_thins_the_backups_of_a_day(answer, app, monkeypatch):
    clock, contents, sizes = Clock(), {}, []
    monkeypatch.setattr(model, "datetime", clock)
    for number in range(40):  # ten hours, with a change each hour
        clock.time = BEGIN + timedelta(minutes=15 * number)
        if number % 4 == 0:
            change(app, number)
        backup = create(answer)
        assert bool(backup["bytes"]) == (number % 4 == 0)
        contents[backup["id"]] = app.content()
        sizes.append(backup["bytes"])
    result = answer("backup", "prune", "--yes")["data"]
    retained = {item["id"] for item in result["retained"]}
    newest = [f"20260301_{hour:02}4500" for hour in range(4, 10)]  # of each of the last six hours
    changed = [f"20260301_{hour:02}0000" for hour in range(4, 10)]  # which have their files
    assert retained == {"20260301_000000", *newest, *changed}
    answer("backup", "verify", "--deep")
    for name in newest[:2]:
        answer("restore", "apply", name, "--yes")
        assert app.content() == contents[name]
