"""Which backups stay: by number, by time, and never without a sound one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from dbctl import config
from dbctl.config import Keep
from dbctl.model import Value, read_span
from dbctl.profiles.model import Profile


class Candidate(Value, frozen=True, kw_only=True):
    """A backup as the rules see it."""

    id: str
    at: datetime
    series: Sequence[str]  #: what it is counted among: each database it holds, apart for each kind


#: What two backups of one hour, day, ISO week… have in common; in UTC, so that no clock change makes two of one.
PERIODS: Mapping[str, Callable[[datetime], object]] = {
    "hourly": lambda at: (at.date(), at.hour),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}


def has_rules(keep: Keep) -> bool:
    """Whether it says anything."""
    return keep != Keep()


def rules_of(app: config.App, profile: Profile) -> Keep:
    """Return which backups of an app stay: as its configuration says, else its profile."""
    told = app.backup.keep if app.backup else Keep()
    return told if has_rules(told) else profile.backup.keep


def told(keep: Keep) -> dict[str, int | str]:
    """Return the rules that say anything, by their names."""
    return {name: value for name in keep.__struct_fields__ if (value := getattr(keep, name))}


def reasons(candidates: Sequence[Candidate], keep: Keep) -> dict[str, list[str]]:
    """Return, for each candidate that stays, why.

    A backup of one database never pushes out the last one of another: every series is counted by itself, and a
    backup stays when any of its series needs it. The newest of each series stays whatever the rules say.

    Args:
        candidates: the newest first.
        keep: the rules.
    """
    stay: dict[str, list[str]] = {}
    names = dict.fromkeys(name for one in candidates for name in one.series)
    for name in names:
        members = [one for one in candidates if name in one.series]
        for one, why in _of_series(members, keep):
            if why not in stay.setdefault(one.id, []):
                stay[one.id].append(why)
    return stay


def _of_series(members: Sequence[Candidate], keep: Keep) -> list[tuple[Candidate, str]]:
    found = [(members[0], "the newest")]
    found += [(one, f"one of the last {keep.last}") for one in members[: keep.last]]
    for rule, period in PERIODS.items():
        number = getattr(keep, rule)
        newest: dict[object, Candidate] = {}
        for one in members:
            newest.setdefault(period(one.at.astimezone(UTC)), one)
        found += [(one, rule) for one in list(newest.values())[:number]]
    if keep.within:
        # From the newest on, not from now: a clock that runs ahead must not make everything old.
        since = members[0].at - read_span(keep.within)
        found += [(one, f"within {keep.within}") for one in members if one.at >= since]
    return found
