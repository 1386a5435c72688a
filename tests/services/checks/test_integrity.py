"""Integrity checks find damage and inconsistencies, and change nothing."""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import closing, contextmanager

import pytest

from dbctl.cli.main import main
from tests.profiles.test_larder import PROFILE
from tests.services.flashpoint_app import run_script, snapshot
from tests.shapes.flashpoint_web import (
    add_user,
    deployed_user_db,
    document_flashpoint_db,
    document_user_db,
    larder_db,
    launcher_extras_db,
)

ORPHANS = "update game_data set gameId = 'gone' where id = (select max(id) from game_data)"


@pytest.fixture(params=["document", "deployed"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "document":
        document_user_db(tmp_path / "user.db")
        document_flashpoint_db(tmp_path / "flashpoint.sqlite")
    else:
        deployed_user_db(tmp_path / "user.db")
        launcher_extras_db(tmp_path / "flashpoint.sqlite")
    configuration = '[apps.fp]\nprofile = "flashpoint-web"\n[apps.fp.databases]\nuser = "user.db"\nflashpoint = "flashpoint.sqlite"\n'
    (tmp_path / "dbctl.toml").write_text(configuration)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_json(answer):
    def run(*words, status=0):
        response = answer(*words, status=status)
        return response["data"] if response["data"] is not None else response["error"]

    return run


def list_codes(result):
    return [(finding["target"], finding["severity"], finding["code"]) for finding in result["findings"]]


@contextmanager
def lock_exclusively(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin exclusive")
        db.execute("create table locked (a)")
        yield


def test_valid_databases_have_no_findings_and_do_not_change(folder, run_json):
    before = snapshot(folder)
    for arguments in ([], ["--quick"], ["--db", "flashpoint"]):
        assert run_json("integrity", "check", *arguments)["findings"] == []
    assert run_json("integrity", "check")["checked"] == 2
    assert snapshot(folder) == before


def test_every_checked_database_has_a_line_with_its_state(folder, run_json, capsys):
    def lines(*words, status=0):
        capsys.readouterr()
        assert main(["integrity", "check", *words]) == status
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    header = ["target", "state"]
    assert lines() == [header, ["fp/user", "ok"], ["fp/flashpoint", "ok"]]
    assert lines("--db", "user") == [header, ["fp/user", "ok"]]
    assert lines("--quiet") == []
    assert run_json("integrity", "check")["databases"] == [
        {"target": "fp/user", "state": "ok"},
        {"target": "fp/flashpoint", "state": "ok"},
    ]
    run_script(folder / "flashpoint.sqlite", ORPHANS)
    states = [header, ["fp/user", "ok"], ["fp/flashpoint", "warning"]]
    assert lines()[:3] == states
    (folder / "user.db").write_bytes(b"no database at all" * 100)
    states[1] = ["fp/user", "error"]
    shown = lines(status=4)
    assert shown[:3] == states
    assert lines("--quiet", status=4) == shown[3:]
    assert [line[0] for line in lines("--columns", "target", status=4)] == [
        "target",
        "fp/user",
        "fp/flashpoint",
    ]


def test_table_option_searches_all_databases(folder, run_json):
    assert run_json("integrity", "check", "--table", "game")["checked"] == 1
    assert run_json("integrity", "check", "--table", "nosuch", status=5)["code"] == "table-missing"


def test_commands_of_mixed_times_select_one_of_several_databases(folder, run_json):
    run_script(
        folder / "user.db",
        "update roles set created_at = '2026-01-01 10:00:00' where id = 1;"
        " update roles set created_at = '2026-01-01T10:00:00.000Z' where id > 1",
    )
    (finding,) = [
        entry for entry in run_json("integrity", "check")["findings"] if entry["code"] == "times-mixed"
    ]
    assert "created_at=TIME --db user" in finding["hint"]
    run_json(*shlex.split(finding["hint"].rpartition("dbctl ")[2]))
    assert "times-mixed" not in {entry["code"] for entry in run_json("integrity", "check")["findings"]}


def test_orphaned_rows_are_errors_only_with_foreign_keys(folder, run_json):
    run_script(folder / "flashpoint.sqlite", ORPHANS)
    result = run_json("integrity", "check")
    assert set(list_codes(result)) == {("fp/flashpoint", "warning", "foreign-key-orphans")}
    run_script(folder / "user.db", "insert into user_stats (user_id) values (99)")
    result = run_json("integrity", "check", status=4)
    assert ("fp/user", "error", "foreign-key-orphans") in list_codes(result)
    assert "1 row of user_stats refers to missing rows of users (user_id)" in result["findings"][0]["message"]


def test_invalid_foreign_key_hides_no_orphaned_rows(tmp_path, run_json):
    run_script(
        path := tmp_path / "app.db",
        """create table makers (id integer primary key, name text);
        create table shops (maker text references makers (name));
        create table games (maker integer references makers);
        insert into games values (1), (2);
        create view names as select name from makers""",
    )
    result = run_json("integrity", "check", "--url", f"main={path}", status=4)
    assert sorted(list_codes(result)) == [
        ("app/main", "error", "foreign-key-orphans"),
        ("app/main", "error", "query-failed"),
    ]


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"no database at all" * 100, "not-a-database", 4),
        (b"", "wrong-app", 2),
        (None, "database-missing", 10),
    ],
)
def test_unreadable_database_does_not_prevent_other_checks(folder, run_json, content, code, status):
    (folder / "user.db").unlink()
    if content is not None:
        (folder / "user.db").write_bytes(content)
    run_script(folder / "flashpoint.sqlite", ORPHANS)
    result = run_json("integrity", "check", status=status)
    assert list_codes(result)[0] == ("fp/user", "error", code)
    assert "fp/flashpoint" in {finding["target"] for finding in result["findings"]}
    if code != "not-a-database":  # also for an empty file: it may be what remains of the database
        assert "dbctl backup list" in result["findings"][0]["hint"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "delete from roles where name = 'user'",
            "roles lacks user (the role of new users), id 2 (built in)",
        ),
        ("delete from roles where name = 'guest'", "roles lacks id 3 (built in)"),
        ("delete from roles", "roles has no rows, so that no user has a role"),
        ("update roles set name = 'boss' where name = 'admin'", "roles lacks admin (the role of admins)"),
    ],
)
def test_missing_role_is_reported(folder, run_json, statement, message):
    run_script(folder / "user.db", "pragma foreign_keys = off; delete from users; " + statement)
    result = run_json("integrity", "check", "--db", "user", status=4)
    assert message in [item["message"] for item in result["findings"] if item["code"] == "roles-incomplete"]


def test_truncated_file_is_corrupt(folder, run_json):
    run_script(folder / "user.db", "pragma journal_mode = delete")
    os.truncate(folder / "user.db", (folder / "user.db").stat().st_size // 8192 * 4096)
    result = run_json("integrity", "check", status=4)
    assert {code for _, severity, code in list_codes(result) if severity == "error"} == {"corrupt"}


def test_damaged_index_is_one_finding(folder, run_json):
    run_script(
        folder / "user.db",
        """with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)
        insert into activity_logs (action, resource) select 'action ' || i, 'resource ' || i from n;
        create index actions on activity_logs (action);
        pragma writable_schema = 1;
        update sqlite_master set sql = 'create index actions on activity_logs (resource)' where name = 'actions'""",
    )
    messages = [
        finding["message"] for finding in run_json("integrity", "check", "--db", "user", status=4)["findings"]
    ]
    assert len(messages) == 1
    assert "row 1 missing from index actions, and 99 more" in messages[0]
    assert "rowid 10, resource: 'resource 10' in the table, 'action 10' in the index" in messages[0]


@pytest.mark.needs_extension("salvage")
def test_damaged_value_is_reported_with_index_value(folder, run_json):
    path = folder / "user.db"
    run_script(path, "pragma journal_mode = delete; create table notes (id integer primary key, word)")
    run_script(path, "create index by_word on notes (word)")
    run_script(path, "insert into notes (word) values ('first'), ('second'), ('third')")
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name = 'notes'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    raw = bytearray(path.read_bytes())
    offset = raw.index(b"second", (page - 1) * size, page * size)
    raw[offset : offset + 6] = b"secXnd"
    path.write_bytes(raw)
    (finding,) = run_json("integrity", "check", status=4)["findings"]
    assert finding["code"] == "index-damaged"
    assert "rowid 2, word: 'secXnd' in the table, 'second' in the index" in finding["message"]
    assert "nothing is lost" not in finding["hint"]
    assert "restore recover" in finding["hint"]


@pytest.mark.parametrize("damage", ["a rowid out of order", "a pointer beyond the page"])
def test_damage_is_reported_once(folder, run_json, damage):
    path = folder / "user.db"
    run_script(path, "pragma journal_mode = delete; create table notes (id integer primary key, word)")
    run_script(
        path,
        """with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
        insert into notes (word) select 'word ' || i from n""",
    )
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name = 'notes'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    raw = bytearray(path.read_bytes())
    if damage == "a pointer beyond the page":
        leaf = int.from_bytes(raw[(page - 1) * size + 8 :][:4])
        first_cell = (leaf - 1) * size + 8
        raw[first_cell : first_cell + 2] = b"\xff\xf0"
    else:
        offset = raw.rindex(b"word 1999") - 3  # length, rowid (two bytes), header
        raw[offset - 2 : offset] = b"\x81\x00"
    path.write_bytes(raw)
    findings = run_json("integrity", "check", "--db", "user", status=4)["findings"]
    messages = [finding["message"] for finding in findings if finding["code"] == "corrupt"]
    assert messages
    assert not [message for message in messages if "***" in message or "malformed" in message]


def test_secret_values_in_index_differences_are_masked(folder, run_json):
    path = folder / "user.db"
    add_user(path, "eve")
    run_script(path, "create index by_hash on users (password_hash)")
    before, after = ("$2b$12$" + letter * 53 for letter in "ab")
    run_script(path, f"update users set password_hash = '{before}' where username = 'eve'")

    def change():
        run_script(path, f"update users set password_hash = '{after}' where username = 'eve'")

    restore_old_page(path, "by_hash", change)
    (finding,) = run_json("integrity", "check", status=4)["findings"]
    assert "password_hash: *** in the table, *** in the index" in finding["message"]
    assert before not in str(finding)
    assert after not in str(finding)


def test_locked_database_is_reported(folder, run_json):
    run_script(folder / "user.db", "pragma journal_mode = delete")
    with lock_exclusively(folder / "user.db"):
        result = run_json("integrity", "check", "--timeout", "0", status=11)
    assert list_codes(result) == [("fp/user", "error", "busy")]


def restore_old_page(path, index, change):
    """Run ``change``, then restore the old page of ``index``, as if the disk had lost a write."""
    run_script(path, "pragma journal_mode = delete")
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name = ?", [index]).fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    old_page = path.read_bytes()[(page - 1) * size : page * size]
    change()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(old_page)


def test_lost_write_of_index_page_is_reported(folder, run_json):
    path = folder / "user.db"
    add_user(path, "eve")

    def change():
        for number in range(5):
            add_user(path, f"later{number}")

    restore_old_page(path, "idx_users_email", change)
    (finding,) = run_json("integrity", "check", status=4)["findings"]
    assert (finding["target"], finding["severity"], finding["code"]) == ("fp/user", "error", "index-damaged")
    assert finding["message"] == (
        "index idx_users_email does not agree with its table (row 2 missing from index idx_users_email, and 5 more)"
    )
    assert finding["hint"].endswith("dbctl maintain reindex --app fp")
    assert run_json("integrity", "check", "--table", "users", status=4)["findings"] == [finding]
    for arguments in (
        ["--quick"],
        ["--quick", "--table", "users"],
        ["--table", "roles"],
        ["--db", "flashpoint"],
    ):
        assert run_json("integrity", "check", *arguments)["findings"] == []
    run_json("maintain", "reindex")
    assert run_json("integrity", "check")["findings"] == []


def test_every_damaged_index_is_reported(folder, run_json):
    path = folder / "user.db"
    tables = "".join(f"create table many{n} (a, b); create index by_{n} on many{n} (a);" for n in range(2))
    run_script(path, tables)

    def insert_rows():
        rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 180) insert into {} select i, i from n;"
        run_script(path, rows.format("many0") + rows.format("many1"))

    restore_old_page(path, "by_1", lambda: restore_old_page(path, "by_0", insert_rows))
    findings = run_json("integrity", "check", status=4)["findings"]
    assert sorted(finding["message"].split(" does")[0] for finding in findings) == [
        "index by_0",
        "index by_1",
    ]
    run_script(path, "reindex")
    assert run_json("integrity", "check")["findings"] == []


def test_duplicate_unique_values_have_a_separate_hint(folder, run_json):
    path = folder / "user.db"
    run_script(
        path,
        "create table cards (a, b); create index by_card on cards (a); insert into cards values ('x', 1), ('x', 2)",
    )
    run_script(
        path,
        "pragma writable_schema = on; update sqlite_master set sql = 'create unique index by_card on cards (a)' where name = 'by_card'",
    )
    (finding,) = run_json("integrity", "check", status=4)["findings"]
    assert (
        finding["message"]
        == "index by_card does not agree with its table (non-unique entry in index by_card)"
    )
    assert finding["hint"].startswith("Two rows have the same unique value")
    with pytest.raises(sqlite3.IntegrityError):
        run_script(path, "reindex by_card")


def test_violated_check_constraint_is_reported(folder, run_json):
    with closing(sqlite3.connect(folder / "user.db")) as db, db:
        db.create_function("is_known", 1, bool, deterministic=True)
        db.executescript(
            """pragma ignore_check_constraints = on; create table rated (stars integer check (stars between 1 and 5));
            insert into rated values (1), (6), (null), (0); create table known (a integer check (is_known(a)));"""
        )
    before = snapshot(folder)
    violated, unchecked = run_json("integrity", "check", status=4)["findings"]
    assert (violated["target"], violated["code"]) == ("fp/user", "constraint-violated")
    assert "2 rows without stars between 1 and 5" in violated["message"]
    assert (unchecked["severity"], unchecked["code"]) == ("info", "not-checked")
    assert "is_known" in unchecked["message"]
    assert run_json("integrity", "check", "--table", "known")["findings"] == [unchecked]
    assert run_json("integrity", "check", "--quick")["findings"] == []
    assert snapshot(folder) == before


def test_full_text_index_is_checked_only_in_writable_database(folder, run_json):
    for name in ("user.db", "flashpoint.sqlite"):
        run_script(
            folder / name,
            """create table notes (id integer primary key, a text); insert into notes values (1, 'one');
            create virtual table words using fts5(a, content='notes', content_rowid='id');
            insert into words (words) values ('rebuild'); update notes set a = 'two'""",
        )
    before = {name: (folder / name).read_bytes() for name in ("user.db", "flashpoint.sqlite")}
    result = run_json("integrity", "check", status=4)
    assert list_codes(result) == [
        ("fp/user", "error", "text-index-damaged"),
        ("fp/flashpoint", "info", "text-index-not-checked"),
    ]
    assert run_json("integrity", "check", "--quick")["findings"] == []
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_app_with_custom_profile_is_checked(tmp_path, run_json):
    path = larder_db(tmp_path / "larder.db")
    arguments = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    assert run_json("integrity", "check", *arguments) == {
        "checked": 1,
        "findings": [],
        "unit": "database",
        "databases": [{"target": "app/pantry", "state": "ok"}],
    }
    run_script(path, "insert into recipe_labels values ('nothing', 'vegan')")
    assert list_codes(run_json("integrity", "check", *arguments, status=4)) == [
        ("app/pantry", "error", "foreign-key-orphans")
    ]


# Cross-checks ----------------------------------------------------------------------------------------------------


def add_plays(folder, *plays):
    """Add a user with plays and statistics, as the app writes them."""
    user = add_user(folder / "user.db", "eve", 2)
    with closing(sqlite3.connect(folder / "user.db")) as db, db:
        for number, (game, seconds, *end_times) in enumerate(plays):
            db.execute(
                "insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)"
                " values (?, ?, 'A game', '2024-01-01T00:00:00.000Z', ?, ?, ?)",
                (user, game, *(end_times or ["2024-01-01T01:00:00.000Z"]), seconds, f"s{number}"),
            )
        db.execute(
            """insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
            select user_id, game_id, 'A game', count(*), sum(duration_seconds) from user_game_plays
            where ended_at is not null group by user_id, game_id"""
        )
        db.execute(
            """insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions)
            select user_id, count(distinct game_id), sum(duration_seconds), count(*) from user_game_plays
            where ended_at is not null group by user_id"""
        )
    return user


@pytest.fixture
def game(folder):
    with closing(sqlite3.connect(folder / "flashpoint.sqlite")) as db:
        return db.execute("select id from game order by id").fetchone()[0]


def test_consistent_databases_have_no_findings(folder, run_json, game):
    add_plays(folder, (game, 60), (game, 30), (game, None, None))
    before = snapshot(folder)
    result = run_json("integrity", "cross-check")
    assert result["findings"] == []
    assert result["checked"] >= 7
    assert snapshot(folder) == before


def test_missing_references_are_counted_with_examples(folder, run_json, game, monkeypatch):
    monkeypatch.setattr("dbctl.services.checks.cross_database.BATCH", 3)
    add_plays(folder, (game, 60), *((f"gone {n % 7}", 10) for n in range(9)))
    messages = [finding["message"] for finding in run_json("integrity", "cross-check")["findings"]]
    assert messages == [
        "plays: 7 of 8 values of user_game_plays.game_id are not in flashpoint (9 rows): gone 0, gone 1, gone 2, gone 3, gone 4 …",
        "statistics of games: 7 of 8 values of user_game_stats.game_id are not in flashpoint (7 rows): gone 0, gone 1, gone 2, gone 3, gone 4 …",
    ]


def test_invalid_utf8_is_reported_escaped(folder, run_json, game, monkeypatch):
    monkeypatch.setattr("dbctl.services.checks.cross_database.BATCH", 1)
    add_plays(folder, (game, 60))
    run_script(
        folder / "user.db",
        """insert into user_game_plays (user_id, game_id, game_title, session_id)
        select min(id), cast(x'ff41' as text), 'A game', 'x' from users
        union all select min(id), cast(x'ff42' as text), 'A game', 'y' from users""",
    )
    (finding,) = run_json("integrity", "cross-check")["findings"]
    assert finding["message"].startswith("plays: 2 of 3 values")
    assert finding["message"].endswith(r": \xffA, \xffB")


def test_recount_without_counts_is_a_finding(tmp_path, answer):
    (tmp_path / "shop.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\nengines = ["sqlite"]\nneeds = ["t"]\n'
        '[[recount]]\nname = "goods of shops"\nsql = "select id from t"\n'
    )
    run_script(tmp_path / "shop.db", "create table t (id integer primary key); insert into t values (1)")
    options = ("--profile", str(tmp_path / "shop.toml"), "--url", f"main={tmp_path / 'shop.db'}")
    (finding,) = answer("integrity", "cross-check", *options, status=2)["data"]["findings"]
    assert (finding["severity"], "1 column" in finding["message"]) == ("error", True)


def test_merged_game_is_not_a_missing_reference(folder, run_json, game):
    run_script(
        folder / "flashpoint.sqlite",
        "create table if not exists game_redirect (id varchar not null, sourceId varchar not null, dateAdded datetime)",
    )
    run_script(
        folder / "flashpoint.sqlite", f"insert into game_redirect (id, sourceId) values ('{game}', 'before')"
    )
    add_plays(folder, ("before", 60))
    assert run_json("integrity", "cross-check")["findings"] == []


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            "update user_game_stats set total_plays = 5",
            [
                "statistics of each user's games, total_plays: 1 disagrees with a recount ({user}, {game}: stored 5, counted 2)"
            ],
        ),
        (
            "update user_stats set total_playtime_seconds = null, total_sessions = 3",
            [
                "statistics of each user, total_sessions: 1 disagrees with a recount ({user}: stored 3, counted 2)",
                "statistics of each user, total_playtime_seconds: 1 disagrees with a recount ({user}: stored 0, counted 90)",
            ],
        ),
        (
            "delete from user_game_stats",
            [
                "statistics of each user's games, total_plays: 1 disagrees with a recount ({user}, {game}: stored 0, counted 2)",
                "statistics of each user's games, total_playtime_seconds: 1 disagrees with a recount ({user}, {game}: stored 0, counted 90)",
            ],
        ),
        ("update user_game_stats set last_played_at = '1999', first_played_at = null", []),
    ],
)
def test_statistics_are_recounted_without_times(folder, run_json, game, change, messages):
    user = add_plays(folder, (game, 60), (game, 30), (game, None, None))
    run_script(folder / "user.db", change)
    result = run_json("integrity", "cross-check")
    assert [finding["message"] for finding in result["findings"]] == [
        text.format(user=user, game=game) for text in messages
    ]


def test_wrong_playlist_count_is_reported(folder, run_json):
    user = add_user(folder / "user.db", "eve", 2)
    if not has_playlists(folder):
        assert run_json("integrity", "cross-check")["findings"] == []
        return
    run_script(
        folder / "user.db",
        f"insert into user_playlists (user_id, title, game_count) values ({user}, 'Favourites', 4)",
    )
    (finding,) = run_json("integrity", "cross-check")["findings"]
    assert finding["message"].endswith("stored 4, counted 0)")


def has_playlists(folder):
    with closing(sqlite3.connect(folder / "user.db")) as db:
        return bool(db.execute("select 1 from sqlite_master where name = 'user_playlists'").fetchone())


def test_missing_database_skips_only_its_checks(folder, run_json, game):
    add_plays(folder, (game, 60))
    text = (folder / "dbctl.toml").read_text()
    (folder / "dbctl.toml").write_text(text.replace('flashpoint = "flashpoint.sqlite"', ""))
    result = run_json("integrity", "cross-check")
    assert {finding["code"] for finding in result["findings"]} == {"not-checked"}
    assert result["checked"] >= 5
    (folder / "dbctl.toml").write_text(text)
    (folder / "flashpoint.sqlite").write_bytes(b"no database" * 100)
    result = run_json("integrity", "cross-check", status=4)
    assert list_codes(result) == [("fp/flashpoint", "error", "not-a-database")]
    assert not result["findings"][0]["message"].startswith("fp/flashpoint")


def test_custom_profile_defines_cross_checks(tmp_path, run_json):
    path = larder_db(tmp_path / "larder.db")
    arguments = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    assert [entry["code"] for entry in run_json("integrity", "cross-check", *arguments)["findings"]] == [
        "recount"
    ]
    run_script(path, 'update "order" set "index" = 3 - "group"; update history set who = \'nobody\'')
    (result,) = run_json("integrity", "cross-check", *arguments)["findings"]
    assert result["message"] == "entries: 1 of 1 value of history.who is not in pantry (2 rows): nobody"


def test_difference_of_duplicated_numbers_is_reported(tmp_path, run_json):
    (tmp_path / "stock.toml").write_text(
        """schema = "dbctl.profile/1"
name = "stock"
title = "Stock"
[databases.main]
engines = ["sqlite"]
needs = ["items"]
[databases.mirror]
engines = ["sqlite"]
[[link]]
name = "mirror"
database = "mirror"
table = "copies"
column = "id"
to = "main"
targets = ["items.id"]
repeats = { state = "state" }
every = true
"""
    )
    for name, table, states in (("main", "items", (-1, 1, 0, -1)), ("mirror", "copies", (-2, 1.0, 0, -1))):
        run_script(
            tmp_path / f"{name}.db",
            f"create table {table} (id integer primary key, state);"
            + "".join(f"insert into {table} values ({key}, {state});" for key, state in enumerate(states)),
        )
    result = run_json(
        "--profile", str(tmp_path / "stock.toml"), *(word for name in ("main", "mirror") for word in ("--url", f"{name}={tmp_path}/{name}.db")),
        "integrity", "cross-check",
    )  # fmt: skip
    (finding,) = result["findings"]
    assert finding["message"] == "mirror: copies.state differs from items.state in 1 row: 0"


@pytest.mark.parametrize("declared", ["integer check (amount > 0)", "integer not null"])
def test_rows_that_violate_constraints_are_no_damage(tmp_path, monkeypatch, answer, declared):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as connection, connection:
        connection.execute("create table item (id integer primary key, amount integer)")
        connection.execute("insert into item values (1, null), (2, 5)")
        connection.execute("update item set amount = 0 where amount is null and ?", ["check" in declared])
        connection.execute("pragma writable_schema = on")
        connection.execute(
            "update sqlite_master set sql = replace(sql, 'amount integer', ?)", [f"amount {declared}"]
        )
    words = ("--profile", "plain", "--url", "main=shop.db")
    (finding,) = answer(*words, "integrity", "check", status=4)["data"]["findings"]
    assert (finding["code"], finding["severity"]) == ("constraint-violated", "error")
    assert "item" in finding["message"]
    assert "restore" not in finding["hint"]
