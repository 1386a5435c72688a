"""Times of jobs: cron expressions, intervals, calendar events of systemd, and the next start."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dbctl.profiles.formats import CRON_FIELDS, FORMATS
from dbctl.units import is_duration, parse_duration

if TYPE_CHECKING:
    from cronsim import CronSim


#: The five fields of cron.
_FIELDS = CRON_FIELDS[1:]
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
#: A second number of Sunday, which only cron accepts.
_SECOND_SUNDAY = 7
SECONDS = 60
#: The schedules of intervals by their minutes; ``{}`` is a minute of the hour.
INTERVALS: dict[float, str] = {
    minutes: f"*/{minutes} * * * *" for minutes in range(1, 60) if 60 % minutes == 0
}
INTERVALS |= {60 * hours: f"{{}} */{hours} * * *" for hours in range(1, 24) if 24 % hours == 0}


def find_interval(text: str) -> str:
    """Return the schedule of an interval, or an empty text if cron has none."""
    seconds = parse_duration(text).total_seconds() if is_duration(text) else 0
    return INTERVALS.get(seconds / SECONDS, "")


def find_schedule_error(text: str) -> str:
    """Return why cron rejects a schedule, or an empty string; cron has no field for seconds."""
    if reason := FORMATS["cron"](text):
        return reason
    if len(text.split()) != len(_FIELDS):
        return "it has 6 fields, not 5"
    from cronsim import CronSimError

    try:
        _parse(text, datetime.now())  # noqa: DTZ005 - schedules have local times
    except CronSimError:
        return "it has no times"
    return ""


def normalize(schedule: str) -> str:
    """Return a schedule without names of months and days, with 0 for Sunday and a range before each step, as every implementation reads it."""
    fields = []
    for part, (field, _, most, names) in zip(schedule.split(), _FIELDS, strict=True):
        text = re.sub(r"(^|,)(\d+)/", rf"\1\2-{most}/", _replace_names(part, names))
        if field == "day of the week" and "7" in text and not text.startswith("*"):
            times = _parse(f"* * * * {text}", datetime.now())  # noqa: DTZ005
            text = ",".join(map(str, sorted(_list_weekdays(times))))
        fields.append(text)
    return " ".join(fields)


def find_next_run(schedule: str, after: datetime) -> datetime:
    """Return the first start after a time; both have a time zone, and the schedule has times of this machine."""
    local = after.astimezone().replace(tzinfo=None)
    # A change of the clock skips or repeats local times, so that the first meaning of one may be before ``after``.
    starts = (time.replace(fold=fold).astimezone() for time in _parse(schedule, local) for fold in (0, 1))
    return next(start for start in starts if start > after)


def list_calendar_events(schedule: str, second: int) -> Sequence[str]:
    """Return the calendar events of systemd at the times of a schedule, in a second of the minute.

    Two events are needed for cron's rule that a day matches if the day of the month or the day of the week matches.
    """
    times = _parse(schedule, datetime.now())  # noqa: DTZ005
    clock = f"{_join(times.hours, 0, 23)}:{_join(times.minutes, 0, 59)}:{second:02}"
    months, days = _join(times.months, 1, 12), _join(times.days, 1, 31)
    weekdays = _list_weekdays(times)
    names = ",".join(_WEEKDAYS[day] for day in sorted(weekdays)) + " "
    if len(weekdays) == len(_WEEKDAYS):
        names = ""
    if times.day_and:
        return [f"{names}*-{months}-{days} {clock}"]
    return [f"*-{months}-{days} {clock}", f"{names}*-{months}-* {clock}"]


def spread_seconds(names: Iterable[str]) -> Mapping[str, int]:
    """Return a second of the minute for each name, by its hash; up to 60 names have different seconds."""
    seconds, used = dict[str, int](), set[int]()
    for name in sorted(names):
        second = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8]) % SECONDS
        while second in used:
            second = (second + 1) % SECONDS
        seconds[name] = second
        used.add(second)
        if len(used) == SECONDS:
            used.clear()
    return seconds


def _parse(schedule: str, at: datetime) -> CronSim:
    from cronsim import CronSim

    parts = schedule.split()
    numbers = [_replace_names(part, names) for part, (_, _, _, names) in zip(parts, _FIELDS, strict=True)]
    return CronSim(" ".join(numbers), at)


def _replace_names(part: str, names: Mapping[str, int]) -> str:
    return re.sub("[A-Za-z]+", lambda match: str(names[match[0].lower()]), part)


def _list_weekdays(times: CronSim) -> set[int]:
    """Return the days of the week, 0 to 6."""
    return {day % _SECOND_SUNDAY for day in times.weekdays if isinstance(day, int)}


def _join(numbers: Iterable[int], least: int, most: int) -> str:
    """Return the numbers as a field of a calendar event."""
    ordered = sorted(numbers)
    if ordered == list(range(least, most + 1)):
        return "*"
    return ",".join(f"{number:02}" for number in ordered)
