"""Cleanup rules of another app: other names, times, keys and statistics."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from dbctl import model
from dbctl.services.sessions.cleanup import CleanUp
from tests.profiles.test_larder import PROFILE
from tests.services.flashpoint_app import open_app, query_rows, run_statements
from tests.shapes.flashpoint_web import larder_db

DAY = 86_400_000
TABLES = (
    """create table cookings ("cooking id" text primary key, member_uuid text not null, "began at" integer not null,
    "end" integer, "how long" integer)""",
    """create table "tally" (member_uuid text primary key, "all of them" integer, seconds integer, "first" integer)""",
)
RULE = '''
[[cleanup]]
name = "left on the stove"
table = "cookings"
key = 'cooking id'
where = { end = ":null" }
age = { column = "began at", older_than = "2d" }
set = { end = { from = "began at", plus = "90s" }, "how long" = 90 }
same_transaction = "member_uuid"

[[cleanup.after]]
into = "tally"
key = ["member_uuid"]
select = """
select member_uuid, count(*), sum("how long"), :now from cookings where "cooking id" in :picked group by member_uuid
"""
merge = { "all of them" = "add", seconds = "add", first = "keep" }

[[cleanup.recount]]
table = "tally"
key = ["member_uuid"]
columns = ["all of them"]
select = """
select c.member_uuid, (select count(*) from cookings e where e.member_uuid = c.member_uuid and e."end" is not null)
from cookings c where c."cooking id" in :picked group by c.member_uuid
"""
'''


@pytest.fixture
def pantry(tmp_path):
    path = larder_db(tmp_path / "larder.db")
    run_statements(path, *TABLES)
    shutil.copy(PROFILE, tmp_path / "larder.toml")
    with (tmp_path / "larder.toml").open("a", encoding="utf-8") as profile:
        profile.write(RULE)
    (tmp_path / "dbctl.toml").write_text(
        '[apps.larder]\nprofile = "larder.toml"\n[apps.larder.databases]\npantry = "larder.db"\n'
    )
    return path


def test_rows_are_closed_and_counted_in_tables_of_another_app(pantry):
    now = time.time_ns() // 1_000_000
    members = [key for (key,) in query_rows(pantry, "select member_uuid from members order by 1")]
    for number in range(300):
        started_at = now - 2 * DAY - 60_000 - number if number % 3 else now - 2 * DAY + 60_000
        end_values = f"{started_at + 5_000}, 5" if number % 5 == 0 else "null, null"
        run_statements(
            pantry,
            f"insert into cookings values ('key {number} ''\"', '{members[number % 2]}', {started_at}, {end_values})",
        )
    run_statements(pantry, f"insert into tally values ('{members[0]}', 1000, 7, 12345)")  # a wrong count
    with open_app(pantry) as app:
        (result,) = CleanUp(app, ["left on the stove"]).apply().rules
    due = [number for number in range(300) if number % 3 and number % 5]
    assert (result.matched, result.changed) == (len(due), len(due)) == (160, 160)
    assert query_rows(
        pantry, 'select distinct "end" - "began at", "how long" from cookings where "how long" = 90'
    ) == [(90_000, 90)]
    counts = {
        member: sum(number % 2 == position and (number in due or number % 5 == 0) for number in range(300))
        for position, member in enumerate(members[:2])
    }
    assert dict(query_rows(pantry, 'select member_uuid, "all of them" from tally')) == counts
    assert query_rows(pantry, "select seconds, first from tally where first = 12345") == [
        (7 + 90 * 80, 12345)
    ]
    ((timestamp,),) = query_rows(pantry, "select first from tally where first <> 12345")
    assert now <= timestamp <= time.time_ns() // 1_000_000
    with open_app(pantry) as app:
        assert CleanUp(app, ["left on the stove"]).apply().changed == 0
        assert not [
            rule.matched for rule in CleanUp(app, ["left on the stove"]).count_due().items if rule.matched
        ]
    ((entry_count,),) = query_rows(pantry, "select count(*) from history where verb = 'sessions.cleanup'")
    assert entry_count == 1


#: Rules for one table: the first deletes or changes rows that the others select.
OVERLAP = """
[[cleanup]]
name = "first"
table = "cookings"
key = 'cooking id'
age = {{ column = "began at", older_than = "2d" }}
{first}

[[cleanup]]
name = "second"
table = "cookings"
key = 'cooking id'
where = {{ "how long" = 90 }}
age = {{ column = "began at", older_than = "1d" }}
{second}

[[cleanup]]
name = "third"
table = "cookings"
key = 'cooking id'
age = {{ column = "end", older_than = "0s" }}
delete = true
"""
DELETES, CLOSES = "delete = true", 'set = { "how long" = 90 }'
MOVES, ENDS = 'set = { end = { from = "began at", plus = "20h" } }', 'set = { "how long" = 7, end = ":now" }'


@pytest.mark.parametrize("second", [DELETES, 'set = { "how long" = 91 }', MOVES])
@pytest.mark.parametrize("first", [DELETES, CLOSES, MOVES, ENDS])
def test_plan_counts_overlapping_rules_in_order(pantry, first, second, monkeypatch):
    with (pantry.parent / "larder.toml").open("a", encoding="utf-8") as profile:
        profile.write(OVERLAP.format(first=first, second=second))
    now, number = time.time_ns() // 1_000_000, 0
    for days in (0, 1.5, 3):
        for end in ("null", now - 1000, now + DAY):
            for long in ("null", 90):
                number += 1
                started_at = int(now - days * DAY)
                run_statements(
                    pantry, f"insert into cookings values ('k{number}', 'm', {started_at}, {end}, {long})"
                )
    with open_app(pantry) as app:
        names = ["first", "second", "third"]
        planned = CleanUp(app, names).plan()
        seconds = count()  # each rule of the run starts in another second
        monkeypatch.setattr(model, "now", lambda: datetime.now(UTC) + timedelta(seconds=next(seconds)))
        results = CleanUp(app, names).apply().rules
    assert planned.rows == {"cookings": sum(rule.changed for rule in results)}
    steps = {step.partition(":")[0]: int(step.split()[2]) for step in planned.steps}
    assert steps == {rule.rule: rule.changed for rule in results if rule.changed}
