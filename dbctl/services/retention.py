"""Which backups stay: by number, by time, and never without a sound one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from dbctl import config, model
from dbctl.config import Keep
from dbctl.model import Value, read_span
from dbctl.profiles.model import Profile
from dbctl.services import clock

#: Why a backup stays that no rule can judge.
FUTURE = "from the future: the clock was wrong when it was made, or is wrong now"


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
    backup stays when any of its series needs it. The newest of each series stays whatever the rules say. A backup from
    the future stays, and takes no other backup's place.

    Args:
        candidates: the newest first.
        keep: the rules.
    """
    future = clock.find_future((candidate.id, candidate.at) for candidate in candidates)
    stay: dict[str, list[str]] = {name: [FUTURE] for name in future}
    judged = [candidate for candidate in candidates if candidate.id not in stay]
    for series in dict.fromkeys(name for candidate in judged for name in candidate.series):
        members = [candidate for candidate in judged if series in candidate.series]
        for candidate, why in _of_series(members, keep):
            if why not in stay.setdefault(candidate.id, []):
                stay[candidate.id].append(why)
    return stay


def _of_series(members: Sequence[Candidate], keep: Keep) -> list[tuple[Candidate, str]]:
    staying = [(members[0], "the newest")]
    staying += [(candidate, f"one of the last {keep.last}") for candidate in members[: keep.last]]
    for rule, period in PERIODS.items():
        count = getattr(keep, rule)
        newest: dict[object, Candidate] = {}
        for candidate in members:
            newest.setdefault(period(candidate.at.astimezone(UTC)), candidate)
        staying += [(candidate, rule) for candidate in list(newest.values())[:count]]
    if keep.within:
        since = model.now() - read_span(keep.within)
        staying += [(candidate, f"within {keep.within}") for candidate in members if candidate.at >= since]
    return staying
