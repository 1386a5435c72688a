"""``restore apply --table``: single tables, as a new table or merged by key."""

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
from dbctl.services.backup.create import CreateBackup
from dbctl.services.restore.merge import TableSelection
from dbctl.services.restore.tables import RestoreTables
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import create_app_backup, undo_restore

EXTRA = (
    "create table shelf (id integer primary key, above integer references shelf (id), label varchar(20) not null, note text)",
    # a child before its parent, text that differs only in case, and empty text
    "insert into shelf values (3, null, 'Top', null), (1, 3, 'left', ''), (2, 3, 'LEFT', 'ä')",
)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def pantry(request, tmp_path):
    """The larder app on each engine."""
    with larder_app.open_pantry(request.param, tmp_path / "app") as created:
        created.run(*EXTRA)
        yield created


@pytest.fixture
def file(tmp_path):
    """The larder app on SQLite, for rules that do not depend on the engine."""
    with larder_app.open_pantry("sqlite", tmp_path / "app") as created:
        created.run(*EXTRA)
        yield created


@pytest.fixture(params=[place for place in larder_app.PLACES if place != "sqlite"])
def served(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as created:
        created.run(*EXTRA)
        yield created


def create_operation(app, repository, *tables, name="latest", **more):
    selection = TableSelection(tables=tables, **more)
    return RestoreTables(
        app, repository, repository.find(name), selection, promptvault_app.create_keys(app), timeout=5
    )


def restore_tables(pantry, *tables, **options):
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        return create_operation(app, repository, *tables, **options).apply()


def plan_restore(pantry, *tables, **options):
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        return create_operation(app, repository, *tables, **options).plan()


def list_counts(done):
    return [(table.table, table.inserted, table.replaced, table.same, table.skipped) for table in done.tables]


def read_shelf(pantry, name="shelf"):
    return sorted(map(tuple, pantry.rows(f"select id, above, label, note from {name}")))


# Into a new table ------------------------------------------------------------------------------------------------


def test_new_table_contains_backup_rows_and_old_table_stays(pantry):
    before = read_shelf(pantry)
    create_app_backup(pantry.path)
    pantry.run("delete from shelf where id = 2", "update shelf set note = 'now'")
    now = read_shelf(pantry)
    assert list_counts(restore_tables(pantry, "shelf", new_name="shelf_then")) == [("shelf", 3, 0, 0, 0)]
    assert (read_shelf(pantry, "shelf_then"), read_shelf(pantry)) == (before, now)
    catch_error(AlreadyExistsError, lambda: restore_tables(pantry, "shelf", new_name="Shelf_Then"))


def test_used_name_is_refused(pantry):
    create_app_backup(pantry.path)
    pantry.run("create index shelf_by_note on shelf (above)")
    names = {"shelf_by_note": "an index"}
    if pantry.engine == "postgresql":
        pantry.run("create sequence counter", "create type mood as enum ('well')")
        names |= {"counter": "a sequence", "mood": "a type"}
    if pantry.engine == "mysql":  # there an index is its table's own
        assert list_counts(restore_tables(pantry, "shelf", new_name="shelf_by_note")) == [
            ("shelf", 3, 0, 0, 0)
        ]
        return
    for name, kind in names.items():
        for action in (plan_restore, restore_tables):
            error = catch_error(
                AlreadyExistsError, lambda action=action, name=name: action(pantry, "shelf", new_name=name)
            )
            assert f"already has {kind} {name!r}" in str(error)


def test_dropped_table_is_restored_under_its_name(pantry):
    before = read_shelf(pantry)
    create_app_backup(pantry.path)
    pantry.run("drop table shelf")
    catch_error(TableNotRestoredError, lambda: restore_tables(pantry, "shelf", merge="missing"))
    restore_tables(pantry, "shelf", new_name="shelf")
    assert read_shelf(pantry) == before


def test_values_of_every_type_are_restored_except_secrets(pantry):
    before = pantry.content()
    create_app_backup(pantry.path)
    for table in ("members", "recipes", "options", "tallies"):
        done = restore_tables(pantry, table, new_name=f"{table}_then")
        (table_result,) = done.tables
        names = [name for name in list_columns(pantry, table) if name not in table_result.ignored_columns]
        listed = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
        restored, now = (
            sorted(map(str, pantry.rows(f"select {listed} from {name}"))) for name in (f"{table}_then", table)
        )
        assert restored == now
        assert table_result.inserted == len(before[table])
        assert ("secret_hash" in table_result.ignored_columns) == (table == "members")


def list_columns(pantry, table):
    with promptvault_app.open_repository(pantry.path) as (app, _repository):
        return list(app.reader("pantry").tables()[table].columns)


# Merge by key ----------------------------------------------------------------------------------------------------


def test_merge_missing_keeps_existing_rows(pantry):
    create_app_backup(pantry.path)
    pantry.run(
        "update shelf set label = 'mine' where id = 2",
        "update shelf set above = null",
        "delete from shelf where id in (1, 3)",
    )
    plan = plan_restore(pantry, "shelf", merge="missing")
    assert (plan.rows, plan.destructive) == ({"shelf": 2}, False)
    assert len(read_shelf(pantry)) == 1
    done = restore_tables(pantry, "shelf", merge="missing")
    assert (list_counts(done), done.safety_backup) == ([("shelf", 2, 0, 0, 1)], None)
    assert [row[:3] for row in read_shelf(pantry)] == [(1, 3, "left"), (2, None, "mine"), (3, None, "Top")]
    assert list_counts(restore_tables(pantry, "shelf", merge="missing")) == [("shelf", 0, 0, 2, 1)]


def test_merge_replace_is_exact_and_can_be_undone(pantry):
    before = read_shelf(pantry)
    create_app_backup(pantry.path)
    pantry.run(
        "update shelf set label = 'LEFT' where id = 1",
        "update shelf set note = '' where id = 3",
        "insert into shelf values (9, null, 'new', null)",
    )
    now = read_shelf(pantry)
    plan = plan_restore(pantry, "shelf", merge="replace")
    assert (plan.rows, plan.destructive) == ({"shelf": 2}, True)
    assert read_shelf(pantry) == now
    done = restore_tables(pantry, "shelf", merge="replace")
    assert list_counts(done) == [("shelf", 0, 2, 1, 0)]
    assert read_shelf(pantry) == [*before, (9, None, "new", None)]
    assert undo_restore(pantry.path).backup == done.safety_backup
    assert read_shelf(pantry) == now


def test_several_tables_are_restored_in_any_order(pantry):
    before = pantry.content()
    create_app_backup(pantry.path)
    pantry.run("delete from recipe_labels", 'delete from "order"', "delete from recipes")
    assert pantry.content() != before
    restore_tables(pantry, "recipe_labels", "order", "recipes", merge="missing")
    assert pantry.content() == before


def test_orphaned_row_rolls_the_merge_back(pantry):
    create_app_backup(pantry.path)
    pantry.run(
        "delete from recipe_labels",
        'delete from "order"',
        "delete from recipes",
        "delete from shelf where id = 2",
    )
    now = pantry.content()
    catch_error(ConstraintError, lambda: restore_tables(pantry, "shelf", "recipe_labels", merge="missing"))
    assert pantry.content() == now


def test_secrets_of_existing_rows_are_not_replaced(pantry):
    create_app_backup(pantry.path)
    before = sorted(pantry.rows("select handle, mail, secret_hash from members"))
    pantry.run(
        "update members set mail = handle || '@spoiled.example', secret_hash = 'changed since'"
        if pantry.engine != "mysql"
        else "update members set mail = concat(handle, '@spoiled.example'), secret_hash = 'changed since'"
    )
    done = restore_tables(pantry, "members", merge="replace")
    assert done.tables[0].unchanged_columns == ["secret_hash"]
    members = sorted(pantry.rows("select handle, mail, secret_hash from members"))
    assert members == [(handle, mail, "changed since") for handle, mail, _ in before]
    assert done.notes


def test_sessions_are_not_restored(file):
    create_app_backup(file.path)
    file.run("delete from member_logins")
    catch_error(TableNotRestoredError, lambda: restore_tables(file, "member_logins", merge="missing"))


def test_merge_cannot_remove_the_last_admin(file):
    file.run("update members set kind = 'guest'")
    create_app_backup(file.path)
    file.run("update members set kind = 'chief' where handle = 'ana'")
    catch_error(LastAdminError, lambda: restore_tables(file, "members", merge="replace"))
    assert (
        promptvault_app.list_all_backups(file.path).page.total == 1
    )  # a safety backup of what did not happen would be undone to
    assert file.rows("select handle from members where kind = 'chief'") == [("ana",)]


def test_changed_plan_is_refused(file):
    create_app_backup(file.path)
    file.run("delete from shelf where id = 2")
    with promptvault_app.open_repository(file.path) as (app, repository):
        operation = create_operation(app, repository, "shelf", merge="missing")
        digest = operation.plan().digest
        file.run("update shelf set above = null", "delete from shelf where id = 3")
        catch_error(PlanChangedError, lambda: operation.apply(digest))
        assert len(read_shelf(file)) == 1
        assert list_counts(operation.apply(operation.plan().digest)) == [("shelf", 2, 0, 0, 1)]


# Changed schema -------------------------------------------------------------------------------------------------


def test_names_and_values_are_quoted(pantry):
    name = "we\"ird; --'"
    quoted = '"we""ird; --\'"'
    pantry.run(
        f'create table {quoted} ("a b" varchar(20) not null, "order" integer not null, "x""y" varchar(40),'
        ' primary key ("a b", "order"))',
        f"insert into {quoted} values ('k', 1, 'it''s; --'), ('K', 2, null), ('é', 1, '''')",
    )
    before = sorted(map(str, pantry.rows(f"select * from {quoted}")))
    create_app_backup(pantry.path)
    pantry.run(f'delete from {quoted} where "order" = 1', f'update {quoted} set "x""y" = \'\'')
    assert list_counts(restore_tables(pantry, name, merge="replace")) == [(name, 2, 1, 0, 0)]
    assert sorted(map(str, pantry.rows(f"select * from {quoted}"))) == before
    restore_tables(pantry, name, new_name="b'c")
    assert sorted(map(str, pantry.rows('select * from "b\'c"'))) == before


def test_common_columns_are_restored_and_others_reported(pantry):
    create_app_backup(pantry.path)
    pantry.run(
        "alter table shelf drop column note",
        "alter table shelf add column since integer",
        "update shelf set since = 7, label = 'x'",
    )
    done = restore_tables(pantry, "shelf", merge="replace")
    assert list_counts(done) == [("shelf", 0, 3, 0, 0)]
    assert (done.tables[0].unchanged_columns, done.tables[0].ignored_columns) == (["since"], ["note"])
    assert sorted(pantry.rows("select id, label, since from shelf")) == [
        (1, "left", 7),
        (2, "LEFT", 7),
        (3, "Top", 7),
    ]
    assert any("note" in note for note in done.notes)


def test_missing_required_column_is_refused(pantry):
    create_app_backup(pantry.path)
    pantry.run(
        "delete from shelf where id = 2",
        "update shelf set above = null",
        "alter table recipe_labels add column weight integer not null default 0",
    )
    restore_tables(pantry, "recipe_labels", merge="missing")
    if pantry.engine == "sqlite":
        pantry.run(
            "drop table shelf",
            "create table shelf (id integer primary key, label text not null, colour text not null)",
        )
    else:
        pantry.run("delete from shelf", "alter table shelf add column colour integer not null")
    error = catch_error(TableNotRestoredError, lambda: restore_tables(pantry, "shelf", merge="missing"))
    assert "colour" in str(error)


def test_table_without_key_is_restored_only_as_new_table(pantry):
    pantry.run(
        "create table loose (a integer, b text)", "insert into loose values (1, 'x'), (1, 'x'), (null, null)"
    )
    create_app_backup(pantry.path)
    catch_error(TableNotRestoredError, lambda: restore_tables(pantry, "loose", merge="missing"))
    restore_tables(pantry, "loose", new_name="loose_then")
    assert len(pantry.rows("select * from loose_then")) == 3


def test_rows_without_key_value_are_refused(file):
    file.run(
        "create table loose (a text primary key, b integer)", "insert into loose values (null, 1), ('x', 2)"
    )
    create_app_backup(file.path)
    for merge in ("missing", "replace"):
        error = catch_error(TableNotRestoredError, partial(restore_tables, file, "loose", merge=merge))
        assert "key column a" in str(error)
    assert file.rows("select a, b from loose") == [(None, 1), ("x", 2)]


def test_full_text_tables_are_not_merged(file):
    file.run("create virtual table words using fts5 (label)", "insert into words values ('zebra')")
    create_app_backup(file.path)
    file.run("insert into words values ('giraffe')")
    for merge in ("missing", "replace"):
        catch_error(NotSupportedError, partial(restore_tables, file, "words_data", merge=merge))
    restore_tables(file, "words_data", new_name="seen")
    assert file.rows("select label from words where words match 'giraffe'") == [("giraffe",)]


def test_table_and_mode_are_required(file):
    create_app_backup(file.path)
    catch_error(UsageError, lambda: restore_tables(file, "shelf"))
    catch_error(UsageError, lambda: restore_tables(file, "shelf", new_name="x", merge="missing"))
    catch_error(UsageError, lambda: restore_tables(file, "shelf", "recipes", new_name="x"))
    catch_error(UsageError, lambda: restore_tables(file, "shelf", "shelf", merge="missing"))
    catch_error(TableMissingError, lambda: restore_tables(file, "nothing", new_name="x"))


# Partial backups ------------------------------------------------------------------------------------------------


def test_partial_backup_restores_its_tables(served):
    for form in ("custom", "plain") if served.engine == "postgresql" else ("",):
        _assert_tables_restored(served, form)


def _assert_tables_restored(served, form):
    before = read_shelf(served), sorted(map(str, served.rows("select * from members")))
    with promptvault_app.open_repository(served.path) as (app, repository):
        backup = CreateBackup(
            app, repository, timeout=5, form=form, tables=["shelf", "members", "recipes"]
        ).apply()
    served.run("update shelf set above = null", "delete from shelf", "update members set kind = 'guest'")
    with promptvault_app.open_repository(served.path) as (app, repository):
        manifest = repository.find(backup.id)
        catch_error(BackupPartialError, lambda: promptvault_app.create_restore(app, repository, manifest))
    restore_tables(served, "shelf", name=backup.id, merge="missing")
    done = restore_tables(served, "members", name=backup.id, merge="replace")
    assert done.tables[0].replaced
    assert (read_shelf(served), sorted(map(str, served.rows("select * from members")))) == before
    restore_tables(served, "recipes", name=backup.id, new_name=f"then_{form}")
    assert len(served.rows(f"select * from then_{form}")) == len(served.rows("select * from recipes"))
