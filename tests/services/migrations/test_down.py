"""Migrations taken back: the newest first, each whole, and nothing that could not be brought back."""

import pytest

from dbctl.errors import (
    DownAllRefusedError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationHalfBackError,
    MigrationHalfDoneError,
    MigrationMissingError,
    MigrationOneWayError,
    PlanChangedError,
    UsageError,
)
from dbctl.services.backup.repository import Repository
from dbctl.services.migrations.down import Downgrade, Reach
from tests.services.migrations import deployments

FILES = {
    "001_authors": "-- migrate:up\ncreate table authors (id integer not null primary key);\ninsert into authors values (1), (2);\n"
    "-- migrate:down\ndrop table authors;\n",
    "002_books": "-- migrate:up\ncreate table books (id integer not null primary key);\n-- migrate:down\ndrop table books;\n",
    "003_notes": "-- migrate:up\ncreate table notes (id integer);\nalter table books add note integer;\n"
    "-- migrate:down\nalter table books drop column note;\ndrop table notes;\n",
}


@pytest.fixture(params=deployments.PLACES)
def desk(request, tmp_path):
    with deployments.settled(request.param, tmp_path / "desk") as made:
        made.write(FILES)
        made.up()
        yield made


@pytest.fixture
def file(tmp_path):
    with deployments.settled("sqlite", tmp_path / "file") as made:
        made.write(FILES)
        made.up()
        yield made


def down(desk, *, seen=None, **reach):
    with desk.opened() as app:
        return Downgrade(app, Reach(**reach)).apply(seen).items


def test_the_last_one_is_taken_back_with_its_row_and_can_be_run_again(desk):
    desk.base.run("insert into books values (1, 7), (2, 8)", "insert into notes values (1)")
    (done,) = down(desk)
    assert (done.name, done.statements, done.rows_lost) == ("003_notes", 2, {"notes": 1})
    assert desk.states() == ["applied", "applied", "pending"]
    assert (desk.count("books"), "notes" in desk.tables()) == (2, False)
    with desk.opened() as app:
        assert Repository(app).find(done.safety_backup).kind == "migration"
    desk.up()
    assert desk.states() == ["applied"] * 3


def test_up_down_and_up_again_make_the_same_schema(desk):
    before = desk.tables()
    assert [one.name for one in down(desk, everything=True)] == ["003_notes", "002_books", "001_authors"]
    assert desk.tables() == {"schema_migrations"}
    assert desk.states() == ["pending"] * 3
    desk.up()
    assert desk.tables() == before


def test_what_a_safety_backup_holds_comes_back(desk):
    desk.base.run("insert into books values (1, 7)")
    before = desk.base.content()
    (done, *_) = down(desk, to="001")
    desk.dbctl("restore", "apply", done.safety_backup, "--yes")
    assert desk.base.content() == before


def test_a_restore_is_undone_as_before_whatever_a_migration_kept_since(file):
    file.dbctl("backup", "create")
    file.base.run("insert into books values (1, 7)")
    before = file.base.content()
    file.dbctl("restore", "apply", "latest", "--yes")
    assert down(file)[0].safety_backup
    file.dbctl("restore", "undo", "--yes")
    assert file.base.content() == before


def test_one_that_fails_after_another_leaves_the_backup_and_names_it(file):
    file.write(
        {"002_books": FILES["002_books"].replace("drop table books", "drop table books;\ndrop table nosuch")}
    )
    file.dbctl("migrate", "repair", "--checksums")
    with pytest.raises(MigrationFailedError) as failed:
        down(file, steps=2)
    assert "002_books was rolled back whole. Done by this run: 003_notes" in failed.value.hint
    assert "What was there before is kept: dbctl restore apply" in failed.value.hint
    assert file.states() == ["applied", "applied", "pending"]


def test_to_and_steps_say_how_far(file):
    assert [one.name for one in down(file, to="1")] == ["003_notes", "002_books"]
    file.up()
    assert [one.name for one in down(file, steps=2)] == ["003_notes", "002_books"]
    with pytest.raises(MigrationMissingError):
        down(file, to="003")
    with file.opened() as app, pytest.raises(UsageError):
        Downgrade(app, Reach(steps=1, to="1"))


def test_the_plan_tells_what_is_lost_and_changes_nothing(desk):
    desk.base.run("insert into notes values (1), (2)")
    before = desk.base.content()
    with desk.opened() as app:
        plan = Downgrade(app, Reach(to="1")).plan()
    assert plan.destructive
    assert plan.rows == {"notes": 2}
    assert plan.steps[0].startswith("keep main as it is now, as a safety backup in ")
    assert plan.steps[1:] == ["take 003_notes back (2 statements)", "take 002_books back (1 statement)"]
    assert desk.base.content() == before
    desk.base.run("insert into notes values (3)")
    with pytest.raises(PlanChangedError):
        down(desk, seen=plan.digest, to="1")
    assert desk.count("notes") == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-- migrate:up\ncreate table four (id integer);\n", "no way down"),
        (
            "-- migrate:up\ncreate table four (id integer);\n-- migrate:down\n-- nothing to do\n",
            "no way down",
        ),
        (
            "-- migrate:up\ncreate table four (id integer);\n-- migrate:down\ndrop table if exists four, schema_migrations;\n",
            "drop the ledger",
        ),
    ],
)
def test_what_has_no_way_down_is_refused_before_anything_runs(desk, text, reason):
    desk.write({"004_four": text})
    desk.up()
    with pytest.raises(MigrationOneWayError, match=reason):
        down(desk, everything=True)
    assert desk.states() == ["applied"] * 4


def test_a_ledger_that_a_way_down_takes_away_behind_its_words_stays(tmp_path):
    with deployments.settled("postgresql", tmp_path / "desk") as desk:
        text = "-- migrate:up\ncreate table t (id integer);\n-- migrate:down\ndo $$ begin execute 'drop table schema_' || 'migrations'; end $$;\n"
        desk.write({"001_t": text})
        desk.up()
        with pytest.raises(MigrationFailedError, match="takes the ledger") as refused:
            down(desk)
        assert "rolled back whole" in refused.value.hint
        assert desk.states() == ["applied"]


def test_a_changed_file_is_not_taken_back(file):
    file.write({"002_books": FILES["002_books"] + "-- more\n"})
    with pytest.raises(MigrationChangedError):
        down(file)


def test_all_of_a_protected_app_is_never_taken_back(file):
    place = file.folder / "dbctl.toml"
    place.write_text(place.read_text().replace("[apps.desk]\n", "[apps.desk]\nprotected = true\n", 1))
    with pytest.raises(DownAllRefusedError):
        down(file, everything=True)
    assert file.dbctl("migrate", "down", "--yes", status=6)["code"] == "confirmation-missing"
    file.dbctl("migrate", "down", "--confirm", "desk")
    assert file.states() == ["applied", "applied", "pending"]


def test_the_command_asks_and_is_answered_by_yes(file):
    assert file.dbctl("migrate", "down", status=6)["code"] == "confirmation-missing"
    assert file.dbctl("migrate", "down", "--dry-run")["plan"]["destructive"]
    told = file.dbctl("migrate", "down", "--yes", "--no-backup")
    assert (told["items"][0]["name"], told["items"][0]["safety_backup"]) == ("003_notes", None)
    assert not (file.folder / "backups").exists()
    file.dbctl("migrate", "down", "--steps", "0", "--yes", status=2)


def test_a_way_down_that_fails_leaves_what_it_can_take_back(desk):
    desk.write(
        {
            "004_bad": "-- migrate:up\ncreate table four (id integer);\n-- migrate:down\ndrop table four;\ndrop table nosuch;\n"
        }
    )
    desk.up()
    with pytest.raises(MigrationFailedError) as failed:
        down(desk)
    if desk.engine != "mysql":
        assert desk.states() == ["applied"] * 4
        assert "four" in desk.tables()
        assert not [
            one for one in (desk.folder / "backups").rglob("*") if one.is_file() and "manifest" in one.name
        ]
        return
    assert isinstance(failed.value, MigrationHalfDoneError)
    assert "What was there before is kept: dbctl restore apply" in failed.value.hint
    assert desk.stands()["004_bad"] == ("failed", "statement 1 of 2 has run, back")
    with pytest.raises(MigrationHalfBackError):
        desk.up()
    desk.base.run("create table nosuch (id integer)")
    assert [one.name for one in down(desk)] == ["004_bad"]
    assert desk.states() == ["applied"] * 3 + ["pending"]
