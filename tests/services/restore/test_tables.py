"""Single tables out of a backup: as a new table beside, or by their key into the one that is there."""

from __future__ import annotations

from functools import partial

import pytest

from dbctl.errors import (
    AlreadyExistsError,
    BackupPartialError,
    ConstraintError,
    LastAdminError,
    NotSupportedError,
    PlanChangedError,
    TableMissingError,
    TableNotRestoredError,
    UsageError,
)
from dbctl.services.backup.create import Creation
from dbctl.services.restore.merge import Wanted
from dbctl.services.restore.tables import RestoringTables
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import create, undo

EXTRA = (
    "create table shelf (id integer primary key, above integer references shelf (id), label varchar(20) not null, note text)",
    # a child before its parent, letters that some servers take for the same, and what looks like nothing
    "insert into shelf values (3, null, 'Top', null), (1, 3, 'left', ''), (2, 3, 'LEFT', 'ä')",
)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def pantry(request, tmp_path):
    """Larder, on each engine."""
    with larder_app.settled(request.param, tmp_path / "app") as made:
        made.run(*EXTRA)
        yield made


@pytest.fixture
def file(tmp_path):
    """Larder, for rules of the service, which knows no engine."""
    with larder_app.settled("sqlite", tmp_path / "app") as made:
        made.run(*EXTRA)
        yield made


@pytest.fixture(params=[place for place in larder_app.PLACES if place != "sqlite"])
def served(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        made.run(*EXTRA)
        yield made


def work(app, repository, *tables, name="latest", **more):
    wanted = Wanted(tables=tables, **more)
    return RestoringTables(
        app, repository, repository.find(name), wanted, promptvault_app.keys_of(app), timeout=5
    )


def brought(pantry, *tables, **more):
    with promptvault_app.opened(pantry.path) as (app, repository):
        return work(app, repository, *tables, **more).apply()


def planned(pantry, *tables, **more):
    with promptvault_app.opened(pantry.path) as (app, repository):
        return work(app, repository, *tables, **more).plan()


def told(done):
    return [(one.table, one.inserted, one.replaced, one.same, one.skipped) for one in done.tables]


def shelf(pantry, name="shelf"):
    return sorted(map(tuple, pantry.rows(f"select id, above, label, note from {name}")))


# Into a new table ------------------------------------------------------------------------------------------------


def test_a_new_table_holds_the_rows_of_then_and_the_old_one_stays(pantry):
    before = shelf(pantry)
    create(pantry.path)
    pantry.run("delete from shelf where id = 2", "update shelf set note = 'now'")
    now = shelf(pantry)
    assert told(brought(pantry, "shelf", new="shelf_then")) == [("shelf", 3, 0, 0, 0)]
    assert (shelf(pantry, "shelf_then"), shelf(pantry)) == (before, now)
    caught(AlreadyExistsError, lambda: brought(pantry, "shelf", new="Shelf_Then"))


def test_a_name_that_something_else_has_is_refused_before_anything_is_done(pantry):
    create(pantry.path)
    pantry.run("create index shelf_by_note on shelf (above)")
    names = {"shelf_by_note": "an index"}
    if pantry.engine == "postgresql":
        pantry.run("create sequence counter", "create type mood as enum ('well')")
        names |= {"counter": "a sequence", "mood": "a type"}
    if pantry.engine == "mysql":  # there an index is its table's own
        assert told(brought(pantry, "shelf", new="shelf_by_note")) == [("shelf", 3, 0, 0, 0)]
        return
    for name, what in names.items():
        for do in (planned, brought):
            error = caught(AlreadyExistsError, lambda do=do, name=name: do(pantry, "shelf", new=name))
            assert f"already has {what} {name!r}" in str(error)


def test_a_table_that_is_gone_comes_back_under_its_own_name(pantry):
    before = shelf(pantry)
    create(pantry.path)
    pantry.run("drop table shelf")
    caught(TableNotRestoredError, lambda: brought(pantry, "shelf", merge="missing"))
    brought(pantry, "shelf", new="shelf")
    assert shelf(pantry) == before


def test_every_kind_of_value_comes_back_as_it_was_but_what_is_secret(pantry):
    before = pantry.content()
    create(pantry.path)
    for table in ("members", "recipes", "options", "tallies"):
        done = brought(pantry, table, new=f"{table}_then")
        (one,) = done.tables
        names = [name for name in columns(pantry, table) if name not in one.left_out]
        listed = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
        then, now = (
            sorted(map(str, pantry.rows(f"select {listed} from {name}"))) for name in (f"{table}_then", table)
        )
        assert then == now
        assert one.inserted == len(before[table])
        assert ("secret_hash" in one.left_out) == (table == "members")


def columns(pantry, table):
    with promptvault_app.opened(pantry.path) as (app, _repository):
        return list(app.reader("pantry").tables()[table].columns)


# By the key ------------------------------------------------------------------------------------------------------


def test_missing_rows_come_back_and_those_that_are_there_stay(pantry):
    create(pantry.path)
    pantry.run(
        "update shelf set label = 'mine' where id = 2",
        "update shelf set above = null",
        "delete from shelf where id in (1, 3)",
    )
    plan = planned(pantry, "shelf", merge="missing")
    assert (plan.rows, plan.destructive) == ({"shelf": 2}, False)
    assert len(shelf(pantry)) == 1
    done = brought(pantry, "shelf", merge="missing")
    assert (told(done), done.safety_backup) == ([("shelf", 2, 0, 0, 1)], None)
    assert [row[:3] for row in shelf(pantry)] == [(1, 3, "left"), (2, None, "mine"), (3, None, "Top")]
    assert told(brought(pantry, "shelf", merge="missing")) == [("shelf", 0, 0, 2, 1)]


def test_rows_that_differ_by_a_letters_case_or_by_nothing_are_replaced_and_undo_goes_back(pantry):
    before = shelf(pantry)
    create(pantry.path)
    pantry.run(
        "update shelf set label = 'LEFT' where id = 1",
        "update shelf set note = '' where id = 3",
        "insert into shelf values (9, null, 'new', null)",
    )
    now = shelf(pantry)
    plan = planned(pantry, "shelf", merge="replace")
    assert (plan.rows, plan.destructive) == ({"shelf": 2}, True)
    assert shelf(pantry) == now
    done = brought(pantry, "shelf", merge="replace")
    assert told(done) == [("shelf", 0, 2, 1, 0)]
    assert shelf(pantry) == [*before, (9, None, "new", None)]
    assert undo(pantry.path).backup == done.safety_backup
    assert shelf(pantry) == now


def test_several_tables_come_back_as_one_change_whatever_their_order(pantry):
    before = pantry.content()
    create(pantry.path)
    pantry.run("delete from recipe_labels", 'delete from "order"', "delete from recipes")
    assert pantry.content() != before
    brought(pantry, "recipe_labels", "order", "recipes", merge="missing")
    assert pantry.content() == before


def test_a_row_that_would_point_to_nothing_keeps_everything_as_it_was(pantry):
    create(pantry.path)
    pantry.run(
        "delete from recipe_labels",
        'delete from "order"',
        "delete from recipes",
        "delete from shelf where id = 2",
    )
    now = pantry.content()
    caught(ConstraintError, lambda: brought(pantry, "shelf", "recipe_labels", merge="missing"))
    assert pantry.content() == now


def test_what_is_secret_stays_in_rows_that_are_there_and_comes_with_new_ones(pantry):
    create(pantry.path)
    before = sorted(pantry.rows("select handle, mail, secret_hash from members"))
    pantry.run(
        "update members set mail = handle || '@spoiled.example', secret_hash = 'changed since'"
        if pantry.engine != "mysql"
        else "update members set mail = concat(handle, '@spoiled.example'), secret_hash = 'changed since'"
    )
    done = brought(pantry, "members", merge="replace")
    assert done.tables[0].stays == ["secret_hash"]
    found = sorted(pantry.rows("select handle, mail, secret_hash from members"))
    assert found == [(handle, mail, "changed since") for handle, mail, _ in before]
    assert done.notes


def test_sessions_of_then_do_not_come_back(file):
    create(file.path)
    file.run("delete from member_logins")
    caught(TableNotRestoredError, lambda: brought(file, "member_logins", merge="missing"))


def test_the_last_admin_of_now_stays_one(file):
    file.run("update members set kind = 'guest'")
    create(file.path)
    file.run("update members set kind = 'chief' where handle = 'ana'")
    caught(LastAdminError, lambda: brought(file, "members", merge="replace"))
    assert (
        promptvault_app.listed(file.path).page.total == 1
    )  # a safety backup of what did not happen would be undone to
    assert file.rows("select handle from members where kind = 'chief'") == [("ana",)]


def test_what_was_agreed_to_is_what_is_done(file):
    create(file.path)
    file.run("delete from shelf where id = 2")
    with promptvault_app.opened(file.path) as (app, repository):
        made = work(app, repository, "shelf", merge="missing")
        seen = made.plan().digest
        file.run("update shelf set above = null", "delete from shelf where id = 3")
        caught(PlanChangedError, lambda: made.apply(seen))
        assert len(shelf(file)) == 1
        assert told(made.apply(made.plan().digest)) == [("shelf", 2, 0, 0, 1)]


# Where the schema has changed ------------------------------------------------------------------------------------


def test_names_and_values_that_look_like_sql_are_names_and_values(pantry):
    name = "we\"ird; --'"
    quoted = '"we""ird; --\'"'
    pantry.run(
        f'create table {quoted} ("a b" varchar(20) not null, "order" integer not null, "x""y" varchar(40),'
        ' primary key ("a b", "order"))',
        f"insert into {quoted} values ('k', 1, 'it''s; --'), ('K', 2, null), ('é', 1, '''')",
    )
    before = sorted(map(str, pantry.rows(f"select * from {quoted}")))
    create(pantry.path)
    pantry.run(f'delete from {quoted} where "order" = 1', f'update {quoted} set "x""y" = \'\'')
    assert told(brought(pantry, name, merge="replace")) == [(name, 2, 1, 0, 0)]
    assert sorted(map(str, pantry.rows(f"select * from {quoted}"))) == before
    brought(pantry, name, new="b'c")
    assert sorted(map(str, pantry.rows('select * from "b\'c"'))) == before


def test_columns_of_both_come_back_and_the_others_are_told(pantry):
    create(pantry.path)
    pantry.run(
        "alter table shelf drop column note",
        "alter table shelf add column since integer",
        "update shelf set since = 7, label = 'x'",
    )
    done = brought(pantry, "shelf", merge="replace")
    assert told(done) == [("shelf", 0, 3, 0, 0)]
    assert (done.tables[0].stays, done.tables[0].left_out) == (["since"], ["note"])
    assert sorted(pantry.rows("select id, label, since from shelf")) == [
        (1, "left", 7),
        (2, "LEFT", 7),
        (3, "Top", 7),
    ]
    assert any("note" in one for one in done.notes)


def test_a_column_that_every_row_wants_and_the_backup_lacks_is_refused(pantry):
    create(pantry.path)
    pantry.run(
        "delete from shelf where id = 2",
        "update shelf set above = null",
        "alter table recipe_labels add column weight integer not null default 0",
    )
    brought(pantry, "recipe_labels", merge="missing")
    if pantry.engine == "sqlite":
        pantry.run(
            "drop table shelf",
            "create table shelf (id integer primary key, label text not null, colour text not null)",
        )
    else:
        pantry.run("delete from shelf", "alter table shelf add column colour integer not null")
    error = caught(TableNotRestoredError, lambda: brought(pantry, "shelf", merge="missing"))
    assert "colour" in str(error)


def test_a_table_without_a_key_comes_back_as_a_new_one_alone(pantry):
    pantry.run(
        "create table loose (a integer, b text)", "insert into loose values (1, 'x'), (1, 'x'), (null, null)"
    )
    create(pantry.path)
    caught(TableNotRestoredError, lambda: brought(pantry, "loose", merge="missing"))
    brought(pantry, "loose", new="loose_then")
    assert len(pantry.rows("select * from loose_then")) == 3


def test_rows_without_a_key_are_not_inserted_again_by_every_merge(file):
    file.run(
        "create table loose (a text primary key, b integer)", "insert into loose values (null, 1), ('x', 2)"
    )
    create(file.path)
    for merge in ("missing", "replace"):
        error = caught(TableNotRestoredError, partial(brought, file, "loose", merge=merge))
        assert "rows without a," in str(error)
    assert file.rows("select a, b from loose") == [(None, 1), ("x", 2)]


def test_rows_of_an_index_of_words_are_not_merged_into_it(file):
    file.run("create virtual table words using fts5 (label)", "insert into words values ('zebra')")
    create(file.path)
    file.run("insert into words values ('giraffe')")
    for merge in ("missing", "replace"):
        caught(NotSupportedError, partial(brought, file, "words_data", merge=merge))
    brought(file, "words_data", new="seen")
    assert file.rows("select label from words where words match 'giraffe'") == [("giraffe",)]


def test_it_is_said_which_table_and_what_becomes_of_it(file):
    create(file.path)
    caught(UsageError, lambda: brought(file, "shelf"))
    caught(UsageError, lambda: brought(file, "shelf", new="x", merge="missing"))
    caught(UsageError, lambda: brought(file, "shelf", "recipes", new="x"))
    caught(UsageError, lambda: brought(file, "shelf", "shelf", merge="missing"))
    caught(TableMissingError, lambda: brought(file, "nothing", new="x"))


# Out of a backup of some tables ----------------------------------------------------------------------------------


def test_a_backup_of_some_tables_gives_them_back(served):
    for form in ("custom", "plain") if served.engine == "postgresql" else ("",):
        _given_back(served, form)


def _given_back(served, form):
    before = shelf(served), sorted(map(str, served.rows("select * from members")))
    with promptvault_app.opened(served.path) as (app, repository):
        made = Creation(app, repository, timeout=5, form=form, tables=["shelf", "members", "recipes"]).apply()
    served.run("update shelf set above = null", "delete from shelf", "update members set kind = 'guest'")
    with promptvault_app.opened(served.path) as (app, repository):
        manifest = repository.find(made.id)
        caught(BackupPartialError, lambda: promptvault_app.restoring(app, repository, manifest))
    brought(served, "shelf", name=made.id, merge="missing")
    done = brought(served, "members", name=made.id, merge="replace")
    assert done.tables[0].replaced
    assert (shelf(served), sorted(map(str, served.rows("select * from members")))) == before
    brought(served, "recipes", name=made.id, new=f"then_{form}")
    assert len(served.rows(f"select * from then_{form}")) == len(served.rows("select * from recipes"))
