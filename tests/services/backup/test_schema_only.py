"""Backups without the rows of some tables, on each engine: what they contain, and every command that reads them."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing, contextmanager

import pytest

from tests.services import larder_app
from tests.services.backup.test_increments import create

#: Texts of rows that no byte of a backup may have.
SECRET = "Unforgettable"
#: Tables of an app with rows that it needs no more, and with everything that could keep or need them.
SCRIPTS = {
    "sqlite": [
        "create table visits (id integer primary key autoincrement, path text unique, member text references members)",
        "create index visits_by_path on visits (path desc)",
        "create virtual table visits_text using fts5(path, content = 'visits', content_rowid = 'id')",
        "create table debug_log (line text)",
    ],
    "postgresql": [
        "create table visits (id serial, path text unique, member uuid references members)",
        "create index visits_by_path on visits (path desc)",
        "create table debug_log (line text, at int) partition by range (at)",
        "create table debug_log_1 partition of debug_log for values from (0) to (10)",
        "create table debug_log_2 partition of debug_log for values from (10) to (20)",
    ],
    "mysql": [
        "create table visits (id int primary key auto_increment, path varchar(80) unique, member char(36), weight float)",
        "alter table visits add foreign key (member) references members (member_uuid)",
        "create index visits_by_path on visits (path desc)",
        "create table debug_log (line text)",
    ],
}
ROWS = [
    "insert into visits (path) values " + ", ".join(f"('{SECRET} {number}')" for number in range(1000)),
    "delete from visits where id > 900",
]
LOGGED = {
    "sqlite": f"insert into debug_log values ('{SECRET}')",
    "postgresql": f"insert into debug_log values ('{SECRET}', 1), ('{SECRET}', 11)",
    "mysql": f"insert into debug_log values ('{SECRET}')",
}
TRIGGER = "create trigger visits_deleted after delete on visits begin update members set mail = handle; end"
#: The names of the tables in a dump.
TABLES = {
    "sqlite": ["debug_log", "visits"],
    "postgresql": ["debug_log_1", "debug_log_2", "visits"],
    "mysql": ["debug_log", "visits"],
}
ENTRIES = 'schema_only = ["visits", "debug_*"]'


@pytest.fixture(
    params=["sqlite", *(pytest.param(kind, marks=pytest.mark.slow) for kind in larder_app.KINDS[1:])]
)
def pantry(request, tmp_path, monkeypatch):
    with open_app(request.param, tmp_path, monkeypatch) as app:
        yield app


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Provide the app on SQLite."""
    with open_app("sqlite", tmp_path, monkeypatch) as app:
        yield app


@contextmanager
def open_app(kind, tmp_path, monkeypatch):
    with larder_app.open_pantry(kind, tmp_path / "app") as app:
        app.run(*SCRIPTS[app.engine], *ROWS, LOGGED[app.engine])
        if app.engine == "sqlite":
            app.run("insert into visits_text (visits_text) values ('rebuild')", "analyze", TRIGGER)
            # as in most builds of SQLite, free pages have what was deleted
            app.run(
                "pragma secure_delete = off",
                f"insert into debug_log select '{SECRET}' from visits",
                "delete from debug_log",
            )
            app.run(LOGGED["sqlite"])
            assert app.path.read_bytes().count(SECRET.encode()) > 2000
        monkeypatch.chdir(app.folder)
        monkeypatch.setenv("DBCTL_STATE", str(app.folder / "state"))
        configure(app, ENTRIES)
        yield app


def configure(app, *lines):
    """Replace the section of backups."""
    file = app.folder / "dbctl.toml"
    text = file.read_text().partition("[apps.larder.backup]")[0]
    file.write_text("\n".join([f'{text}[apps.larder.backup]\nrepository = "backups"', *lines, ""]))


def next_key(app):
    """Insert a row, and return its key."""
    app.run(f"insert into visits (path) values ('{SECRET} next')")
    ((key,),) = app.rows("select max(id) from visits")
    return key


def read_contents(app):
    """Return the decompressed files of all backups."""
    paths = [path for path in (app.folder / "backups").rglob("*") if path.is_file()]
    return [
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths
    ]


def test_backup_lacks_the_rows_and_is_complete_for_every_command(answer, pantry):
    before = pantry.content()
    backup = create(answer)
    (member,) = [member for member in backup["members"] if member["database"]]
    assert (backup["complete"], member["schema_only"]) == (True, TABLES[pantry.engine])
    assert [member["rows"][name] for name in member["schema_only"]] == [0] * len(member["schema_only"])
    assert not any(SECRET.encode() in content for content in read_contents(pantry))
    assert SECRET in str(before)
    assert ("visits" in answer("backup", "list")["data"]["items"][0]["note"]) is True
    (shown,) = [
        member for member in answer("backup", "show", "latest")["data"]["members"] if member["database"]
    ]
    assert shown == member
    for command in (["verify"], ["verify", "--deep"], ["verify", "--against-live"], ["drill"]):
        result = answer("backup", *command)
        assert not [item for item in result["data"].get("findings", ()) if item["severity"] != "info"]
    (drilled,) = answer("backup", "drill")["data"]["databases"]
    assert (drilled["passed"], drilled["schema_only"]) == (True, member["schema_only"])
    (compared,) = answer("restore", "preview", "latest")["data"]["databases"]
    assert (compared["schema"], compared["schema_only"]) == ("same", member["schema_only"])

    (restored,) = answer("restore", "apply", "latest", "--yes")["data"]["databases"]
    assert restored["schema_only"] == member["schema_only"]
    content = pantry.content()
    emptied = {name for name in before if name.startswith(("visits", "debug_log", "sqlite_stat"))}
    assert {name: rows for name, rows in content.items() if name not in emptied} == {
        name: rows for name, rows in before.items() if name not in emptied
    }
    assert not any(content[name] for name in member["schema_only"])
    answer("integrity", "check")
    assert next_key(pantry) == 1001
    # the safety backup has all rows
    answer("restore", "undo", "--yes")
    assert pantry.content() == before


def test_copies_of_the_backup_state_what_they_lack(answer, small):
    del small  # the current folder
    backup = create(answer)
    answer("backup", "copy", "--to", "elsewhere")
    answer("backup", "verify", "--deep", "--repository", "elsewhere")
    (member,) = answer("backup", "show", backup["id"], "--repository", "elsewhere")["data"]["members"]
    assert member["schema_only"] == TABLES["sqlite"]


def test_rows_that_were_left_out_are_not_restored_by_table(answer, pantry):
    create(answer)
    before = pantry.content()
    options = ["--table", TABLES[pantry.engine][0], "--merge", "replace", "--yes"]
    assert answer("restore", "apply", "latest", *options, status=6)["error"]["code"] == "rows-left-out"
    assert pantry.content() == before
    # a backup of some tables has their rows
    if pantry.engine != "sqlite":
        partial = create(answer, "--table", "visits")
        assert partial["members"][0]["rows"] == {"visits": 900}


def test_referenced_tables_are_refused(answer, pantry):
    configure(pantry, 'schema_only = ["members"]')
    refused = answer("backup", "create", status=2)["error"]
    assert refused["code"] == "schema-only-refused"
    assert "visits.member refers to members" in refused["message"]
    assert not (pantry.folder / "backups/larder").exists() or not list(
        (pantry.folder / "backups/larder").glob("2*")
    )
    findings = answer("doctor", status=2)["data"]["findings"]
    assert "schema-only-refused" in {finding["code"] for finding in findings}


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ('["nothing", "visits"]', "schema-only-unknown"),
        ('["no_*"]', "schema-only-unknown"),
        ('["*"]', "schema-only-refused"),
        ('["visits_text"]', "schema-only-unknown"),
    ],
)
def test_other_entries_are_refused(answer, small, entries, code):
    configure(small, f"schema_only = {entries}")
    assert answer("backup", "create", status=2)["error"]["code"] == code
    assert answer("backup", "create", "--dry-run", status=2)["error"]["code"] == code
    findings = answer("apps", "check", status=4)["data"]["findings"]
    assert [finding["code"] for finding in findings if finding["severity"] == "error"] == [code]


@pytest.mark.parametrize("value", ["[1]", '"visits"', '[""]'])
def test_invalid_values_are_reported_with_their_line(answer, small, value):
    configure(small, f"schema_only = {value}")
    (finding,) = answer("config", "validate", status=2)["data"]["findings"]
    assert (finding["line"], "schema_only" in finding["message"]) == (7, True)


@pytest.mark.parametrize("pantry", ["postgresql"], indirect=True)
def test_all_tables_are_refused_also_partitions(answer, pantry):
    configure(pantry, 'schema_only = ["*"]')
    refused = answer("backup", "create", status=2)["error"]
    assert (refused["code"], "no other table" in refused["message"]) == ("schema-only-refused", True)


def test_index_with_texts_of_the_rows_is_refused(answer, small):
    small.run(
        "create virtual table found using fts5(path)",
        "create trigger fill after insert on visits begin insert into found values (new.path); end",
        f"insert into visits (path) values ('{SECRET} found')",
    )
    refused = answer("backup", "create", status=2)["error"]
    assert (refused["code"], "found has texts of visits" in refused["message"]) == (
        "schema-only-refused",
        True,
    )
    configure(small, 'schema_only = ["visits", "found", "debug_log"]')
    create(answer)
    assert not any(SECRET.encode() in content for content in read_contents(small))


def test_rows_without_a_key_keep_their_numbers(answer, small):
    """A full-text index refers to them."""
    small.run(
        "create table words (word text)",
        "insert into words values ('one'), ('two'), ('three')",
        "delete from words where word = 'one'",
        "create virtual table words_text using fts5(word, content = 'words')",
        "insert into words_text (words_text) values ('rebuild')",
    )
    query = "select rowid, word from words where rowid in (select rowid from words_text where words_text match 'three')"
    before = small.rows(query)
    create(answer)
    answer("restore", "apply", "latest", "--yes")
    assert small.rows(query) == before == [(3, "three")]


def test_file_with_a_function_of_the_app_is_refused(answer, small):
    with closing(sqlite3.connect(small.path)) as connection, connection:
        connection.create_function("shout", 1, str.upper, deterministic=True)
        connection.execute("create index loud on debug_log (shout(line))")
    refused = answer("backup", "create", status=2)["error"]
    assert (refused["code"], "shout" in refused["message"]) == ("not-supported", True)
    assert not list((small.folder / "backups/larder").glob("2*"))


def test_damage_is_that_of_the_database(answer, small):
    (page,) = small.rows("select rootpage - 1 from sqlite_master where name = 'visits'")[0]
    with small.path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 100)
    refused = answer("backup", "create", status=4)["error"]
    assert (refused["code"], "larder/pantry" in refused["message"]) == ("corrupt", True)
    assert not list((small.folder / "backups/larder").glob("2*"))


@pytest.mark.slow
def test_changed_setting_makes_another_copy(answer, small):
    """A reference to an earlier file would state the tables of that one."""
    configure(small, "incremental = true")
    whole = create(answer)
    configure(small, "incremental = true", ENTRIES)
    emptied = create(answer)
    assert [member["schema_only"] for member in emptied["members"]] == [TABLES["sqlite"]]
    assert not any(member["stored_in"] for member in emptied["members"])
    small.run("delete from debug_log", f"insert into debug_log values ('{SECRET} again')")
    unchanged = create(answer)
    assert [member["stored_in"] for member in unchanged["members"]] == [emptied["id"]]
    small.run("update members set mail = 'changed@larder.example' where handle = 'ana'")
    content = small.content()
    changed = create(answer)
    assert changed["members"][0]["schema_only"] == TABLES["sqlite"]
    answer("backup", "verify", "--deep")
    for name in (whole["id"], emptied["id"], unchanged["id"], changed["id"]):
        answer("backup", "drill", name)
    answer("restore", "apply", changed["id"], "--yes")
    restored = small.content()
    assert (restored["members"], restored["visits"]) == (content["members"], [])
    answer("restore", "apply", whole["id"], "--yes")
    assert len(small.content()["visits"]) == 900


@pytest.mark.parametrize("pantry", ["mysql"], indirect=True)
def test_empty_tables_are_the_same_only_with_the_same_setting(answer, pantry):
    """Their dumps are equal."""
    pantry.run("delete from visits", "delete from debug_log")
    configure(pantry, "incremental = true", ENTRIES)
    emptied = create(answer)
    configure(pantry, "incremental = true")
    whole = create(answer)
    assert [(member["schema_only"], member["stored_in"]) for member in whole["members"]] == [([], "")]
    assert whole["members"][0]["content_sha256"] == emptied["members"][0]["content_sha256"]


def test_left_out_rows_are_no_loss(answer, small):
    small.run(*[LOGGED["sqlite"]] * 50)
    configure(small, "max_shrink = 0.1")
    for _ in range(3):
        create(answer)
    configure(small, "max_shrink = 0.1", 'schema_only = ["visits"]')
    for _ in range(3):
        create(answer)
    configure(small, "max_shrink = 0.1", ENTRIES)
    create(answer)
    small.run("delete from recipe_labels")
    assert answer("backup", "create", status=4)["error"]["code"] == "backup-shrunken"


@pytest.mark.needs_extension("lancedb")
def test_folder_of_tables_is_refused(answer, tmp_path, monkeypatch):
    """A table of LanceDB is copied with the files of its rows."""
    lance = pytest.importorskip("lancedb")
    lance.connect(tmp_path / "vectors").create_table("seen", [{"id": 1}])
    (tmp_path / "dbctl.toml").write_text(
        '[apps.v]\nprofile = "plain"\ndatabases = "lancedb:vectors"\n[apps.v.backup]\nrepository = "backups"\nschema_only = ["seen"]\n'
    )
    monkeypatch.chdir(tmp_path)
    refused = answer("backup", "create", status=2)["error"]
    assert (refused["code"], "seen" in refused["message"]) == ("not-supported", True)


def test_manifest_with_rows_of_such_a_table_is_invalid(answer, small):
    from dbctl.services.backup import manifest as backup_manifest

    create(answer)
    (path,) = (small.folder / "backups").rglob("manifest.json")
    manifest = json.loads(path.read_text())["backup"]
    manifest["members"][0]["rows"]["visits"] = 1
    invalid = backup_manifest.serialize(backup_manifest.msgspec.convert(manifest, backup_manifest.Manifest))
    with pytest.raises(backup_manifest.ManifestInvalidError):
        backup_manifest.parse(invalid.encode())
