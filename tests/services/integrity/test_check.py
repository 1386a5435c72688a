"""What a look into the databases of an app finds, and that it leaves no trace."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager

import pytest

from tests.profiles.test_larder import PROFILE
from tests.shapes.flashpoint_web import (
    add_user,
    deployed_user_db,
    document_flashpoint_db,
    document_user_db,
    launcher_extras_db,
    sixth_app_db,
)

ORPHANS = "update game_data set gameId = 'gone' where id = (select max(id) from game_data)"


@pytest.fixture(params=["document", "deployed"])
def place(request, tmp_path, monkeypatch):
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
def ask(answer):
    def run(*words, status=0):
        told = answer(*words, status=status)
        return told["data"] if told["data"] is not None else told["error"]

    return run


def execute(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(sql)


def trace(folder):
    return {one.name: (one.stat().st_mtime_ns, one.read_bytes()) for one in folder.iterdir()} | {
        ".": folder.stat().st_mtime_ns
    }


def codes(told):
    return [(one["target"], one["severity"], one["code"]) for one in told["findings"]]


@contextmanager
def locked(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin exclusive")
        db.execute("create table held (a)")
        yield


def test_sound_databases_are_found_so_without_a_trace(place, ask):
    before = trace(place)
    for words in ([], ["--quick"], ["--db", "flashpoint"]):
        assert ask("integrity", "check", *words)["findings"] == []
    assert ask("integrity", "check")["checked"] == 2
    assert trace(place) == before


def test_a_table_is_looked_for_in_every_database(place, ask):
    assert ask("integrity", "check", "--table", "game")["checked"] == 1
    assert ask("integrity", "check", "--table", "nosuch", status=2)["code"] == "schema-lacks"


def test_rows_that_point_to_nothing_are_errors_where_keys_are_kept_and_warnings_where_they_are_not(
    place, ask
):
    execute(place / "flashpoint.sqlite", ORPHANS)
    told = ask("integrity", "check")
    assert set(codes(told)) == {("fp/flashpoint", "warning", "foreign-key-orphans")}
    execute(place / "user.db", "insert into user_stats (user_id) values (99)")
    told = ask("integrity", "check", status=4)
    assert ("fp/user", "error", "foreign-key-orphans") in codes(told)
    assert "1 row of user_stats points with user_id to nothing in users" in told["findings"][0]["message"]


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"no database at all" * 100, "not-a-database", 4),
        (b"", "wrong-app", 2),
        (None, "database-missing", 10),
    ],
)
def test_what_cannot_be_read_is_a_finding_and_the_rest_is_looked_at(place, ask, content, code, status):
    (place / "user.db").unlink()
    if content is not None:
        (place / "user.db").write_bytes(content)
    execute(place / "flashpoint.sqlite", ORPHANS)
    told = ask("integrity", "check", status=status)
    assert codes(told)[0] == ("fp/user", "error", code)
    assert "fp/flashpoint" in {one["target"] for one in told["findings"]}


def test_a_file_that_was_cut_short_is_damaged(place, ask):
    execute(place / "user.db", "pragma journal_mode = delete")
    os.truncate(place / "user.db", (place / "user.db").stat().st_size // 8192 * 4096)
    told = ask("integrity", "check", status=4)
    assert {code for _, severity, code in codes(told) if severity == "error"} == {"corrupt"}


def test_a_damaged_index_is_told_once_and_not_for_each_of_its_rows(place, ask):
    execute(
        place / "user.db",
        """with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)
        insert into activity_logs (action, resource) select 'action ' || i, 'resource ' || i from n;
        create index spoilt on activity_logs (action);
        pragma writable_schema = 1;
        update sqlite_master set sql = 'create index spoilt on activity_logs (resource)' where name = 'spoilt'""",
    )
    told = [one["message"] for one in ask("integrity", "check", "--db", "user", status=4)["findings"]]
    assert len(told) == 1
    assert "row 1 missing from index spoilt, and 99 more such" in told[0]
    assert "rowid 10, resource: 'resource 10' in the table, 'action 10' in the index" in told[0]


def test_a_damaged_value_of_a_table_is_shown_with_the_value_that_its_index_still_has(place, ask):
    path = place / "user.db"
    execute(path, "pragma journal_mode = delete; create table notes (id integer primary key, word)")
    execute(path, "create index by_word on notes (word)")
    execute(path, "insert into notes (word) values ('first'), ('second'), ('third')")
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name = 'notes'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    raw = bytearray(path.read_bytes())
    at = raw.index(b"second", (page - 1) * size, page * size)
    raw[at : at + 6] = b"secXnd"
    path.write_bytes(raw)
    (finding,) = ask("integrity", "check", status=4)["findings"]
    assert finding["code"] == "index"
    assert "rowid 2, word: 'secXnd' in the table, 'second' in the index" in finding["message"]
    assert "nothing is lost" not in finding["hint"]
    assert "restore recover" in finding["hint"]


@pytest.mark.parametrize("damage", ["a rowid out of order", "a pointer beyond the page"])
def test_damage_is_reported_once(place, ask, damage):
    path = place / "user.db"
    execute(path, "pragma journal_mode = delete; create table notes (id integer primary key, word)")
    execute(
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
        at = raw.rindex(b"word 1999") - 3  # length, rowid (two bytes), header
        raw[at - 2 : at] = b"\x81\x00"
    path.write_bytes(raw)
    findings = ask("integrity", "check", "--db", "user", status=4)["findings"]
    messages = [finding["message"] for finding in findings if finding["code"] == "corrupt"]
    assert messages
    assert not [message for message in messages if "***" in message or "malformed" in message]


def test_values_of_secret_columns_that_differ_from_their_index_are_masked(place, ask):
    path = place / "user.db"
    add_user(path, "eve")
    execute(path, "create index by_hash on users (password_hash)")
    before, after = ("$2b$12$" + letter * 53 for letter in "ab")
    execute(path, f"update users set password_hash = '{before}' where username = 'eve'")

    def change():
        execute(path, f"update users set password_hash = '{after}' where username = 'eve'")

    with_an_old_page(path, "by_hash", change)
    (finding,) = ask("integrity", "check", status=4)["findings"]
    assert "password_hash: *** in the table, *** in the index" in finding["message"]
    assert before not in str(finding)
    assert after not in str(finding)


def test_a_database_that_is_locked_was_not_looked_at(place, ask):
    execute(place / "user.db", "pragma journal_mode = delete")
    with locked(place / "user.db"):
        told = ask("integrity", "check", "--timeout", "0", status=11)
    assert codes(told) == [("fp/user", "error", "busy")]


def with_an_old_page(path, index, change):
    """Make ``change`` and put the page of ``index`` back as it was before: a write that the disk has lost."""
    execute(path, "pragma journal_mode = delete")
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name = ?", [index]).fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    old = path.read_bytes()[(page - 1) * size : page * size]
    change()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(old)


def test_trap_a_write_that_the_disk_lost_leaves_an_old_page_which_only_another_copy_contradicts(place, ask):
    path = place / "user.db"
    add_user(path, "eve")

    def change():
        for number in range(5):
            add_user(path, f"later{number}")

    with_an_old_page(path, "idx_users_email", change)
    (told,) = ask("integrity", "check", status=4)["findings"]
    assert (told["target"], told["severity"], told["code"]) == ("fp/user", "error", "index")
    assert told["message"] == (
        "index idx_users_email does not agree with its table (row 2 missing from index idx_users_email, and 5 more such)"
    )
    assert told["hint"].endswith("dbctl maintain reindex")
    assert ask("integrity", "check", "--table", "users", status=4)["findings"] == [told]
    for words in (["--quick"], ["--quick", "--table", "users"], ["--table", "roles"], ["--db", "flashpoint"]):
        assert ask("integrity", "check", *words)["findings"] == []
    ask("maintain", "reindex")
    assert ask("integrity", "check")["findings"] == []


def test_every_broken_index_is_named_also_where_one_has_more_rows_than_sqlite_lists(place, ask):
    path = place / "user.db"
    tables = "".join(f"create table many{n} (a, b); create index by_{n} on many{n} (a);" for n in range(2))
    execute(path, tables)

    def fill():
        rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 180) insert into {} select i, i from n;"
        execute(path, rows.format("many0") + rows.format("many1"))

    with_an_old_page(path, "by_1", lambda: with_an_old_page(path, "by_0", fill))
    found = ask("integrity", "check", status=4)["findings"]
    assert sorted(one["message"].split(" does")[0] for one in found) == ["index by_0", "index by_1"]
    execute(path, "reindex")
    assert ask("integrity", "check")["findings"] == []


def test_what_may_be_there_once_and_is_there_twice_has_to_be_settled_before(place, ask):
    path = place / "user.db"
    execute(
        path,
        "create table cards (a, b); create index by_card on cards (a); insert into cards values ('x', 1), ('x', 2)",
    )
    execute(
        path,
        "pragma writable_schema = on; update sqlite_master set sql = 'create unique index by_card on cards (a)' where name = 'by_card'",
    )
    (told,) = ask("integrity", "check", status=4)["findings"]
    assert (
        told["message"] == "index by_card does not agree with its table (non-unique entry in index by_card)"
    )
    assert told["hint"].startswith("Two rows hold what may be there only once")
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "reindex by_card")


def test_an_index_for_searching_text_is_looked_into_where_it_may_be_written(place, ask):
    for name in ("user.db", "flashpoint.sqlite"):
        execute(
            place / name,
            """create table notes (id integer primary key, a text); insert into notes values (1, 'one');
            create virtual table words using fts5(a, content='notes', content_rowid='id');
            insert into words (words) values ('rebuild'); update notes set a = 'two'""",
        )
    before = {name: (place / name).read_bytes() for name in ("user.db", "flashpoint.sqlite")}
    told = ask("integrity", "check", status=4)
    assert codes(told) == [
        ("fp/user", "error", "text-index"),
        ("fp/flashpoint", "info", "text-index-not-checked"),
    ]
    assert ask("integrity", "check", "--quick")["findings"] == []
    assert {name: (place / name).read_bytes() for name in before} == before


def test_an_app_that_dbctl_has_never_heard_of_is_checked(tmp_path, ask):
    path = sixth_app_db(tmp_path / "larder.db")
    words = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    assert ask("integrity", "check", *words) == {"checked": 1, "findings": []}
    execute(path, "insert into recipe_labels values ('nothing', 'vegan')")
    assert codes(ask("integrity", "check", *words, status=4)) == [
        ("app/pantry", "error", "foreign-key-orphans")
    ]


# Between tables, and between databases -----------------------------------------------------------------------------


def played(place, *plays):
    """Add a user with ended plays, and the statistics that the app would have written."""
    user = add_user(place / "user.db", "eve", 2)
    with closing(sqlite3.connect(place / "user.db")) as db, db:
        for number, (game, seconds, *ended) in enumerate(plays):
            db.execute(
                "insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)"
                " values (?, ?, 'A game', '2024-01-01T00:00:00.000Z', ?, ?, ?)",
                (user, game, *(ended or ["2024-01-01T01:00:00.000Z"]), seconds, f"s{number}"),
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
def game(place):
    with closing(sqlite3.connect(place / "flashpoint.sqlite")) as db:
        return db.execute("select id from game order by id").fetchone()[0]


def test_what_agrees_is_found_so_without_a_trace(place, ask, game):
    played(place, (game, 60), (game, 30), (game, None, None))
    before = trace(place)
    told = ask("integrity", "cross-check")
    assert told["findings"] == []
    assert told["checked"] >= 7
    assert trace(place) == before


def test_plays_of_games_that_the_archive_lacks_are_counted_with_examples(place, ask, game, monkeypatch):
    monkeypatch.setattr("dbctl.services.integrity.cross_database.BATCH", 3)
    played(place, (game, 60), *((f"gone {n % 7}", 10) for n in range(9)))
    messages = [one["message"] for one in ask("integrity", "cross-check")["findings"]]
    assert messages == [
        "plays: 7 of 8 values of user_game_plays.game_id are not in flashpoint (9 rows): gone 0, gone 1, gone 2, gone 3, gone 4 …",
        "statistics of games: 7 of 8 values of user_game_stats.game_id are not in flashpoint (7 rows): gone 0, gone 1, gone 2, gone 3, gone 4 …",
    ]


def test_text_that_is_no_utf_8_is_told_and_does_not_end_the_search(place, ask, game, monkeypatch):
    monkeypatch.setattr("dbctl.services.integrity.cross_database.BATCH", 1)
    played(place, (game, 60))
    execute(
        place / "user.db",
        """insert into user_game_plays (user_id, game_id, game_title, session_id)
        select min(id), cast(x'ff41' as text), 'A game', 'x' from users
        union all select min(id), cast(x'ff42' as text), 'A game', 'y' from users""",
    )
    (told,) = ask("integrity", "cross-check")["findings"]
    assert told["message"].startswith("plays: 2 of 3 values")
    assert told["message"].endswith(r": \xffA, \xffB")


def test_a_game_that_was_merged_into_another_is_not_lost(place, ask, game):
    execute(
        place / "flashpoint.sqlite",
        "create table if not exists game_redirect (id varchar not null, sourceId varchar not null, dateAdded datetime)",
    )
    execute(
        place / "flashpoint.sqlite", f"insert into game_redirect (id, sourceId) values ('{game}', 'before')"
    )
    played(place, ("before", 60))
    assert ask("integrity", "cross-check")["findings"] == []


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
def test_statistics_are_counted_again_and_moments_are_not(place, ask, game, change, messages):
    user = played(place, (game, 60), (game, 30), (game, None, None))
    execute(place / "user.db", change)
    told = ask("integrity", "cross-check")
    assert [one["message"] for one in told["findings"]] == [
        text.format(user=user, game=game) for text in messages
    ]


def test_a_playlist_that_miscounts_its_games_is_found(place, ask):
    user = add_user(place / "user.db", "eve", 2)
    if not _has_playlists(place):
        assert ask("integrity", "cross-check")["findings"] == []
        return
    execute(
        place / "user.db",
        f"insert into user_playlists (user_id, title, game_count) values ({user}, 'Mine', 4)",
    )
    (told,) = ask("integrity", "cross-check")["findings"]
    assert told["message"].endswith("stored 4, counted 0)")


def _has_playlists(place):
    with closing(sqlite3.connect(place / "user.db")) as db:
        return bool(db.execute("select 1 from sqlite_master where name = 'user_playlists'").fetchone())


def test_without_the_archive_the_rest_is_compared(place, ask, game):
    played(place, (game, 60))
    text = (place / "dbctl.toml").read_text()
    (place / "dbctl.toml").write_text(text.replace('flashpoint = "flashpoint.sqlite"', ""))
    told = ask("integrity", "cross-check")
    assert {one["code"] for one in told["findings"]} == {"not-checked"}
    assert told["checked"] >= 5
    (place / "dbctl.toml").write_text(text)
    (place / "flashpoint.sqlite").write_bytes(b"no database" * 100)
    told = ask("integrity", "cross-check", status=4)
    assert codes(told) == [("fp/flashpoint", "error", "not-a-database")]


def test_an_app_that_dbctl_has_never_heard_of_is_compared_by_its_profile_alone(tmp_path, ask):
    path = sixth_app_db(tmp_path / "larder.db")
    words = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    assert [one["code"] for one in ask("integrity", "cross-check", *words)["findings"]] == ["recount"]
    execute(path, 'update "order" set "index" = 3 - "group"; update history set who = \'nobody\'')
    (told,) = ask("integrity", "cross-check", *words)["findings"]
    assert told["message"] == "entries: 1 of 1 value of history.who is not in pantry (2 rows): nobody"
