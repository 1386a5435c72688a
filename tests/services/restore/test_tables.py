"""``restore apply --table``: single tables, as a new table or merged by key."""

from __future__ import annotations

from functools import partial

import pytest

from dbctl.errors.backup import BackupPartialError, TableNotRestoredError
from dbctl.errors.connection import ConstraintError
from dbctl.errors.databases import AlreadyExistsError, TableMissingError
from dbctl.errors.usage import NotSupportedError, PlanChangedError, UsageError, ValueInvalidError
from dbctl.errors.users import LastAdminError
from dbctl.services.backup.create import CreateBackup
from dbctl.services.restore.merge import TableSelection
from dbctl.services.restore.tables import RestoreTables
from tests import servers
from tests.databases import empty_database
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import create_app_backup, undo_restore

TABLE_STATEMENTS = (
    "create table shelf (id integer primary key, above integer references shelf (id), label varchar(20) not null, note text)",
    # a child row before its parent, texts that differ only in case, and an empty text
    "insert into shelf values (3, null, 'Top', null), (1, 3, 'left', ''), (2, 3, 'LEFT', 'ä')",
)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def pantry(request, tmp_path):
    """Larder on each engine."""
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        app.run(*TABLE_STATEMENTS)
        yield app


@pytest.fixture
def sqlite_pantry(tmp_path):
    """Larder on SQLite, for rules that do not depend on the engine."""
    with larder_app.open_pantry("sqlite", tmp_path / "app") as app:
        app.run(*TABLE_STATEMENTS)
        yield app


@pytest.fixture(params=[kind for kind in larder_app.KINDS if kind != "sqlite"])
def server_pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        app.run(*TABLE_STATEMENTS)
        yield app


def create_operation(app, repository, *tables, name="latest", **options):
    selection = TableSelection(tables=tables, **options)
    return RestoreTables(promptvault_app.open_source(repository, name), selection)


def restore_tables(pantry, *tables, **options):
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        return create_operation(app, repository, *tables, **options).apply()


def plan_restore(pantry, *tables, **options):
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        return create_operation(app, repository, *tables, **options).plan()


def list_counts(result):
    return [
        (table.table, table.inserted, table.replaced, table.same, table.skipped) for table in result.tables
    ]


def read_shelf(pantry, name="shelf"):
    return sorted(map(tuple, pantry.rows(f"select id, above, label, note from {name}")))


# Into a new table ------------------------------------------------------------------------------------------------


def test_new_table_contains_backup_rows_and_old_table_is_unchanged(pantry):
    before = read_shelf(pantry)
    create_app_backup(pantry.path)
    pantry.run("delete from shelf where id = 2", "update shelf set note = 'now'")
    now = read_shelf(pantry)
    assert list_counts(restore_tables(pantry, "shelf", new_name="shelf_then")) == [("shelf", 3, 0, 0, 0)]
    assert (read_shelf(pantry, "shelf_then"), read_shelf(pantry)) == (before, now)
    catch_error(AlreadyExistsError, lambda: restore_tables(pantry, "shelf", new_name="Shelf_Then"))


def test_existing_name_is_refused(pantry):
    create_app_backup(pantry.path)
    pantry.run("create index shelf_by_note on shelf (above)")
    names = {"shelf_by_note": "an index"}
    if pantry.engine == "postgresql":
        pantry.run("create sequence counter", "create type mood as enum ('well')")
        names |= {"counter": "a sequence", "mood": "a type"}
    if pantry.engine == "mysql":  # indexes and tables have separate namespaces
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


def test_name_that_the_engine_refuses_is_refused_by_the_plan(pantry):
    create_app_backup(pantry.path)
    name = "sqlite_then" if pantry.engine == "sqlite" else "n" * 65
    for action in (plan_restore, restore_tables):
        error = catch_error(ValueInvalidError, lambda action=action: action(pantry, "shelf", new_name=name))
        assert name in str(error)


#: A column of text whose values are equal in each case, or not.
KEYS = {
    "sqlite": {"same": "varchar(20) collate nocase", "distinct": "varchar(20)"},
    "postgresql": {"same": "varchar(20) collate any_case", "distinct": "varchar(20)"},
    "mysql": {
        "same": "varchar(20) collate utf8mb4_general_ci",
        "distinct": "varchar(20) collate utf8mb4_bin",
    },
}


def create_codes(pantry, case, *rows):
    if pantry.engine == "postgresql":
        pantry.run(
            "create collation if not exists any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    pantry.run(
        "drop table if exists codes",
        f"create table codes (code {KEYS[pantry.engine][case]} not null primary key, note varchar(20))",
        *(f"insert into codes values ('{code}', '{note}')" for code, note in rows),
    )


def read_codes(pantry):
    return sorted(map(tuple, pantry.rows("select code, note from codes")))


@pytest.mark.parametrize(("mode", "counts"), [("missing", (0, 0, 1, 1)), ("replace", (0, 1, 1, 0))])
def test_key_in_another_case_is_a_difference(pantry, mode, counts):
    create_codes(pantry, "same", ("a", "one"), ("b", "two"))
    create_app_backup(pantry.path)
    pantry.run("update codes set code = 'A' where note = 'one'")
    before = read_codes(pantry)
    assert list_counts(restore_tables(pantry, "codes", merge=mode)) == [("codes", *counts)]
    assert read_codes(pantry) == (before if mode == "missing" else [("a", "one"), ("b", "two")])


@pytest.mark.parametrize("mode", ["missing", "replace"])
def test_keys_that_differ_only_in_case_are_those_of_the_table(pantry, mode):
    create_codes(pantry, "distinct", ("a", "one"), ("A", "two"))
    create_app_backup(pantry.path)
    pantry.run("delete from codes where note = 'two'")
    assert list_counts(restore_tables(pantry, "codes", merge=mode)) == [("codes", 1, 0, 1, 0)]
    assert read_codes(pantry) == [("A", "two"), ("a", "one")]
    create_codes(pantry, "same", ("a", "one"))
    for action in (plan_restore, restore_tables):  # one of the two rows would replace the other
        error = catch_error(TableNotRestoredError, lambda action=action: action(pantry, "codes", merge=mode))
        assert "1 key of the live table" in str(error)
    assert read_codes(pantry) == [("a", "one")]


def test_dropped_table_is_restored_with_its_name(pantry):
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
        result = restore_tables(pantry, table, new_name=f"{table}_then")
        (table_result,) = result.tables
        names = [name for name in list_columns(pantry, table) if name not in table_result.ignored_columns]
        columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
        restored_rows, rows = (
            sorted(map(str, pantry.rows(f"select {columns} from {name}")))
            for name in (f"{table}_then", table)
        )
        assert restored_rows == rows
        assert table_result.inserted == len(before[table])
        assert ("secret_hash" in table_result.ignored_columns) == (table == "members")


def test_missing_times_stay_missing_in_a_new_table(tmp_path, monkeypatch, answer):
    """Where a TIMESTAMP that does not state NULL is NOT NULL, with the present time instead of NULL."""
    monkeypatch.chdir(tmp_path)
    with servers.private_mysql_app(tmp_path, "--explicit-defaults-for-timestamp=OFF") as cursor:
        cursor.execute("create table t (id int primary key, seen timestamp null)")
        cursor.execute("insert into t values (1, null)")
        answer("backup", "create")
        answer("restore", "apply", "latest", "--table", "t", "--into", "t_then", "--yes")
        cursor.execute("select * from t_then")
        assert cursor.fetchall() == ((1, None),)


def list_columns(pantry, table):
    with promptvault_app.open_repository(pantry.path) as (app, _repository):
        return list(app.reader("pantry").tables()[table].columns)


# Merge by key ----------------------------------------------------------------------------------------------------


def test_text_that_is_not_utf8_stays_text(sqlite_pantry):
    """Also in a key, which otherwise matches no row."""
    sqlite_pantry.run(
        "create table marks (id text primary key, note text, any_value)",
        "insert into marks values (cast(x'ff' as text), cast(x'00fe' as text), cast(x'80' as text)), ('b', x'ff', x'ff')",
    )
    query = "select typeof(id), hex(id), typeof(note), hex(note), typeof(any_value) from marks order by id"
    rows = sqlite_pantry.rows(query)
    create_app_backup(sqlite_pantry.path)
    assert list_counts(restore_tables(sqlite_pantry, "marks", merge="replace")) == [("marks", 0, 0, 2, 0)]
    sqlite_pantry.run("delete from marks where id <> 'b'", "update marks set note = 'x'")
    assert list_counts(restore_tables(sqlite_pantry, "marks", merge="replace")) == [("marks", 1, 1, 0, 0)]
    assert sqlite_pantry.rows(query) == rows


def test_rows_that_a_trigger_changed_are_stated(pantry):
    create_app_backup(pantry.path)
    if pantry.engine == "postgresql":
        pantry.run(
            "create function number_note() returns trigger language plpgsql as"
            " $$ begin new.note = 'trigger'; return new; end $$",
            "create trigger numbered before insert on shelf for each row execute function number_note()",
        )
    elif pantry.engine == "mysql":
        pantry.run("create trigger numbered before insert on shelf for each row set new.note = 'trigger'")
    else:
        update = "update shelf set note = 'trigger' where id = new.id;"
        pantry.run(f"create trigger numbered after insert on shelf begin {update} end")
    pantry.run("delete from shelf where id in (1, 2)")
    result = restore_tables(pantry, "shelf", merge="missing")
    assert list_counts(result) == [("shelf", 2, 0, 1, 0)]
    assert [table.altered for table in result.tables] == [2]
    assert len(result.remarks) == 1


def test_merge_whose_rows_a_trigger_removes_is_refused(pantry):
    create_app_backup(pantry.path)
    pantry.run("delete from shelf where id in (1, 2)")
    if pantry.engine == "postgresql":
        pantry.run(
            "create function remove() returns trigger language plpgsql as"
            " $$ begin delete from shelf where id = new.id; return null; end $$",
            "create trigger odd after insert on shelf for each row execute function remove()",
        )
    elif pantry.engine == "mysql":
        pantry.run("create trigger odd before insert on shelf for each row set new.id = new.id + 100")
    else:
        pantry.run("create trigger odd after insert on shelf begin delete from shelf where id = new.id; end")
    before = read_shelf(pantry)
    with pytest.raises(ConstraintError):
        restore_tables(pantry, "shelf", merge="missing")
    assert read_shelf(pantry) == before


def test_merge_missing_does_not_change_existing_rows(pantry):
    create_app_backup(pantry.path)
    pantry.run(
        "update shelf set label = 'new' where id = 2",
        "update shelf set above = null",
        "delete from shelf where id in (1, 3)",
    )
    plan = plan_restore(pantry, "shelf", merge="missing")
    assert (plan.rows, plan.destructive) == ({"shelf": 2}, False)
    assert len(read_shelf(pantry)) == 1
    result = restore_tables(pantry, "shelf", merge="missing")
    assert (list_counts(result), result.safety_backup) == ([("shelf", 2, 0, 0, 1)], None)
    assert [row[:3] for row in read_shelf(pantry)] == [(1, 3, "left"), (2, None, "new"), (3, None, "Top")]
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
    result = restore_tables(pantry, "shelf", merge="replace")
    assert list_counts(result) == [("shelf", 0, 2, 1, 0)]
    assert read_shelf(pantry) == [*before, (9, None, "new", None)]
    assert undo_restore(pantry.path).backup == result.safety_backup
    assert read_shelf(pantry) == now


def test_plan_of_an_undo_names_the_restore_that_it_reverts(tmp_path, monkeypatch, answer):
    """A merge that replaces no row has no safety backup: the undo is that of the restore before it."""
    monkeypatch.chdir(tmp_path)
    with empty_database("sqlite", tmp_path / "shelf.db") as database:
        database.run(*TABLE_STATEMENTS)
        answer("init", "plain", ".", "--app", "shelf", "--url", f"main={database.url}")
        answer("backup", "create")
        restored = answer("backup", "list")["data"]["items"][0]["id"]
        answer("restore", "apply", restored, "--yes")
        database.run("delete from shelf where id = 1")
        answer("restore", "apply", restored, "--table", "shelf", "--merge", "missing")
        title = answer("restore", "undo", "--dry-run")["data"]["plan"]["title"]
    assert title.endswith(f" UTC, from before the restore of {restored})")


def test_several_tables_are_restored_in_any_order(pantry):
    before = pantry.content()
    create_app_backup(pantry.path)
    pantry.run("delete from recipe_labels", 'delete from "order"', "delete from recipes")
    assert pantry.content() != before
    restore_tables(pantry, "recipe_labels", "order", "recipes", merge="missing")
    assert pantry.content() == before


@pytest.mark.parametrize("mode", ["missing", "replace"])
@pytest.mark.parametrize("tables", [("crate", "lid"), ("lid", "crate")])
def test_tables_that_refer_to_each_other_are_restored(pantry, mode, tables):
    # SQLite adds no foreign key to a table, and others refer to no table that is missing
    top = "references lid (id)" if pantry.engine == "sqlite" else ""
    pantry.run(
        f"create table crate (id integer primary key, top integer {top}, note varchar(20))",
        "create table lid (id integer primary key, crate integer not null references crate (id), note varchar(20))",
        *([] if top else ["alter table crate add foreign key (top) references lid (id)"]),
        "insert into crate values (1, null, 'a'), (2, null, 'b'), (3, null, 'c')",
        "insert into lid values (11, 1, 'x'), (12, 2, 'y')",
    )
    pantry.run("update crate set top = id + 10 where id < 3")
    create_app_backup(pantry.path)
    # what remains differs from the backup, also in the column that refers to the other table
    pantry.run("update crate set top = null", "delete from lid", "delete from crate where id = 2")
    result = restore_tables(pantry, *tables, merge=mode)
    counts = {"missing": (1, 0, 1, 1), "replace": (1, 1, 1, 0)}[mode]
    assert sorted(list_counts(result)) == [("crate", *counts), ("lid", 2, 0, 0, 0)]
    assert [table.altered for table in result.tables] == [0, 0]
    first = None if mode == "missing" else 11
    assert sorted(map(tuple, pantry.rows("select * from crate"))) == [
        (1, first, "a"),
        (2, 12, "b"),
        (3, None, "c"),
    ]
    assert sorted(map(tuple, pantry.rows("select * from lid"))) == [(11, 1, "x"), (12, 2, "y")]


def test_orphaned_row_rolls_back_the_merge(pantry):
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
        "update members set mail = handle || '@changed.example', secret_hash = 'changed since'"
        if pantry.engine != "mysql"
        else "update members set mail = concat(handle, '@changed.example'), secret_hash = 'changed since'"
    )
    result = restore_tables(pantry, "members", merge="replace")
    assert result.tables[0].unchanged_columns == ["secret_hash"]
    again = plan_restore(pantry, "members", merge="replace").steps
    assert any(step.endswith("that equal the backup, apart from secret_hash") for step in again)
    members = sorted(pantry.rows("select handle, mail, secret_hash from members"))
    assert members == [(handle, mail, "changed since") for handle, mail, _ in before]
    assert result.remarks


def test_sessions_are_not_restored(sqlite_pantry):
    create_app_backup(sqlite_pantry.path)
    sqlite_pantry.run("delete from member_logins")
    catch_error(
        TableNotRestoredError, lambda: restore_tables(sqlite_pantry, "member_logins", merge="missing")
    )


def test_merge_cannot_remove_the_last_admin(sqlite_pantry):
    sqlite_pantry.run("update members set kind = 'guest'")
    create_app_backup(sqlite_pantry.path)
    sqlite_pantry.run("update members set kind = 'chief' where handle = 'ana'")
    catch_error(LastAdminError, lambda: restore_tables(sqlite_pantry, "members", merge="replace"))
    # A safety backup would let an undo revert to it.
    assert promptvault_app.list_all_backups(sqlite_pantry.path).page.total == 1
    assert sqlite_pantry.rows("select handle from members where kind = 'chief'") == [("ana",)]


def test_changed_plan_is_refused(sqlite_pantry):
    create_app_backup(sqlite_pantry.path)
    sqlite_pantry.run("delete from shelf where id = 2")
    with promptvault_app.open_repository(sqlite_pantry.path) as (app, repository):
        operation = create_operation(app, repository, "shelf", merge="missing")
        digest = operation.plan().digest
        sqlite_pantry.run("update shelf set above = null", "delete from shelf where id = 3")
        catch_error(PlanChangedError, lambda: operation.apply(digest))
        assert len(read_shelf(sqlite_pantry)) == 1
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
    steps = plan_restore(pantry, "shelf", merge="replace").steps
    assert "leave since of existing rows unchanged" in steps
    result = restore_tables(pantry, "shelf", merge="replace")
    assert not any("leave" in step for step in plan_restore(pantry, "shelf", merge="replace").steps)
    assert list_counts(result) == [("shelf", 0, 3, 0, 0)]
    assert (result.tables[0].unchanged_columns, result.tables[0].ignored_columns) == (["since"], ["note"])
    assert sorted(pantry.rows("select id, label, since from shelf")) == [
        (1, "left", 7),
        (2, "LEFT", 7),
        (3, "Top", 7),
    ]
    assert any("note" in note for note in result.remarks)


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


def test_rows_of_inheriting_tables_are_not_merged_into_their_parent(tmp_path):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as pantry:
        pantry.run(
            "create table parent (id integer primary key, note text)",
            "create table heir (more integer, primary key (id)) inherits (parent)",
            "insert into parent values (1, 'p')",
            "insert into heir values (2, 'h', 5)",
        )
        create_app_backup(pantry.path)
        pantry.run("delete from parent")
        error = catch_error(TableNotRestoredError, lambda: restore_tables(pantry, "parent", merge="missing"))
        assert "inherit" in str(error)
        assert list_counts(restore_tables(pantry, "heir", merge="missing")) == [("heir", 1, 0, 0, 0)]
        assert pantry.rows("select id from parent") == [(2,)]


def test_rows_of_partitions_are_those_of_their_table(tmp_path):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as app:
        app.run(
            "create table events (id integer, region text, note text, primary key (id, region)) partition by list (region)",
            "create table events_eu partition of events for values in ('eu')",
            "create table events_us partition of events for values in ('us') partition by hash (id)",
            "create table events_us_all partition of events_us for values with (modulus 1, remainder 0)",
            "insert into events values (1, 'eu', 'a'), (2, 'us', 'b'), (3, 'us', 'c')",
        )
        before = app.rows("select *, tableoid::regclass::text from events order by id")
        create_app_backup(app.path)
        app.run(
            "delete from events where id = 1",
            "update events set note = 'new' where id = 2",
            "create table events_new partition of events default",
            "insert into events values (4, 'xx', 'd')",
        )
        (result,) = restore_tables(app, "events", merge="replace").tables
        assert (result.inserted, result.replaced, result.same) == (1, 1, 1)
        rows = app.rows("select *, tableoid::regclass::text from events where id < 4 order by id")
        assert rows == before
        restore_tables(app, "events", new_name="events_then")
        assert app.rows("select count(*) from events_then") == [(3,)]
        for part in ("events_eu", "events_us", "events_new"):
            catch_error(TableMissingError, partial(restore_tables, app, part, merge="replace"))


def test_table_without_key_is_restored_only_as_new_table(pantry):
    pantry.run(
        "create table loose (a integer, b text)", "insert into loose values (1, 'x'), (1, 'x'), (null, null)"
    )
    create_app_backup(pantry.path)
    catch_error(TableNotRestoredError, lambda: restore_tables(pantry, "loose", merge="missing"))
    restore_tables(pantry, "loose", new_name="loose_then")
    assert len(pantry.rows("select * from loose_then")) == 3


def test_rows_without_key_value_are_refused(sqlite_pantry):
    sqlite_pantry.run(
        "create table loose (a text primary key, b integer)", "insert into loose values (null, 1), ('x', 2)"
    )
    create_app_backup(sqlite_pantry.path)
    for merge in ("missing", "replace"):
        error = catch_error(
            TableNotRestoredError, partial(restore_tables, sqlite_pantry, "loose", merge=merge)
        )
        assert "key column a" in str(error)
    assert sqlite_pantry.rows("select a, b from loose") == [(None, 1), ("x", 2)]


def test_full_text_tables_are_not_merged(sqlite_pantry):
    sqlite_pantry.run("create virtual table words using fts5 (label)", "insert into words values ('zebra')")
    create_app_backup(sqlite_pantry.path)
    sqlite_pantry.run("insert into words values ('giraffe')")
    for merge in ("missing", "replace"):
        catch_error(NotSupportedError, partial(restore_tables, sqlite_pantry, "words_data", merge=merge))
    restore_tables(sqlite_pantry, "words_data", new_name="seen")
    assert sqlite_pantry.rows("select label from words where words match 'giraffe'") == [("giraffe",)]


def test_table_and_mode_are_required(sqlite_pantry):
    create_app_backup(sqlite_pantry.path)
    catch_error(UsageError, lambda: restore_tables(sqlite_pantry, "shelf"))
    catch_error(UsageError, lambda: restore_tables(sqlite_pantry, "shelf", new_name="x", merge="missing"))
    catch_error(UsageError, lambda: restore_tables(sqlite_pantry, "shelf", "recipes", new_name="x"))
    catch_error(UsageError, lambda: restore_tables(sqlite_pantry, "shelf", "shelf", merge="missing"))
    catch_error(TableMissingError, lambda: restore_tables(sqlite_pantry, "nothing", new_name="x"))


# Partial backups ------------------------------------------------------------------------------------------------


def test_partial_backup_restores_its_tables(server_pantry):
    for form in ("custom", "plain") if server_pantry.engine == "postgresql" else ("",):
        assert_tables_restored(server_pantry, form)


def assert_tables_restored(server_pantry, form):
    before = read_shelf(server_pantry), sorted(map(str, server_pantry.rows("select * from members")))
    with promptvault_app.open_repository(server_pantry.path) as (_app, repository):
        backup = CreateBackup(repository, form=form, tables=["shelf", "members", "recipes"]).apply()
    server_pantry.run(
        "update shelf set above = null", "delete from shelf", "update members set kind = 'guest'"
    )
    with promptvault_app.open_repository(server_pantry.path) as (_app, repository):
        manifest = repository.find(backup.id)
        catch_error(BackupPartialError, lambda: promptvault_app.create_restore(repository, manifest))
    restore_tables(server_pantry, "shelf", name=backup.id, merge="missing")
    result = restore_tables(server_pantry, "members", name=backup.id, merge="replace")
    assert result.tables[0].replaced
    assert (
        read_shelf(server_pantry),
        sorted(map(str, server_pantry.rows("select * from members"))),
    ) == before
    restore_tables(server_pantry, "recipes", name=backup.id, new_name=f"then_{form}")
    assert len(server_pantry.rows(f"select * from then_{form}")) == len(
        server_pantry.rows("select * from recipes")
    )


def test_plan_names_the_foreign_keys_that_follow_replaced_columns(pantry):
    pantry.run(
        "create table teams (id integer primary key, code varchar(9) unique, note varchar(9))",
        "create table bills (id integer primary key, code varchar(9),"
        " foreign key (code) references teams (code) on update set null)",
        "insert into teams values (1, 'a', 'x'), (2, 'b', 'y')",
        "insert into bills values (1, 'a')",
    )
    create_app_backup(pantry.path)

    def plan():
        with promptvault_app.open_repository(pantry.path) as (app, repository):
            return create_operation(app, repository, "teams", merge="replace").plan().steps

    pantry.run("update teams set note = 'z' where id = 1")
    assert not [step for step in plan() if "bills" in step]
    pantry.run(
        "update bills set code = null",
        "update teams set code = 'c' where id = 1",
        "update bills set code = 'c'",
    )
    assert [step for step in plan() if "bills" in step] == [
        "change code of the rows of bills that refer to a replaced code, by its foreign key (ON UPDATE SET NULL)"
    ]
    restore_tables(pantry, "teams", merge="replace")
    assert pantry.rows("select code from bills") == [(None,)]
