"""Rows that still refer to a user after the deletion: the plan and the result list them."""

from __future__ import annotations

import pytest

from tests.databases import empty_database

PROFILE = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
[users]
admin = false
table = "people"
id = { column = "id", codec = "given" }
login = ["login"]
fields = { login = "login" }
cascade = ["notes.person"]
[users.retained]
"posts.author" = "the app retains them"
"log.person" = "history"
"archive?.person" = "history"
"log[kind=note].editor -> people.boss" = "history of others"
[[users.transfer]]
table = "posts"
column = "author"
[[users.transfer]]
table = "files"
column = "owner"
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_plan_and_result_list_retained_rows(answer, tmp_path, engine):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
            "create table notes (id integer primary key, person integer)",
            (
                "create table log (kind varchar(9), person integer, editor integer, note integer,"
                " foreign key (note) references notes (id) on delete cascade)"
            ),
            "create table posts (author integer)",
            "create table files (owner integer)",
            "insert into people values (1, 'ida', null), (2, 'bo', 1), (3, 'cy', null)",
            "insert into notes values (7, 1), (8, 2)",
            # the first row is deleted with the note of ida
            "insert into log values ('note', 1, 2, 7), ('note', 1, 2, 8), ('other', 1, 2, null), ('note', 2, 3, null)",
            "insert into posts values (1), (1), (2)",
            "insert into files values (1), (2)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")

        def list_retained(*words: str) -> list[tuple[str, str, int, str]]:
            data = answer("users", "delete", *words, *options)["data"]
            rows = data.get("plan", data)["retained"]
            return sorted((row["table"], row["column"], row["rows"], row["reason"]) for row in rows)

        expected = [("log", "editor", 1, "history of others"), ("log", "person", 2, "history")]
        assert list_retained("ida", "--transfer-to", "bo", "--dry-run") == expected
        retained = list_retained("ida", "--dry-run")
        assert retained[1:] == [*expected, ("posts", "author", 2, "the app retains them")]
        assert retained[0][:3] == ("files", "owner", 1)  # with the option that transfers them as reason
        plan = answer("users", "delete", "ida", "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"people": 1, "notes": 1, "log": 1}
        assert len([step for step in plan["steps"] if step.startswith("keep")]) == 4
        assert list_retained("ida", "--yes") == retained
        assert database.rows("select count(*) from log where person = 1") == [(2,)]
        assert database.rows("select count(*) from posts where author = 1") == [(2,)]
        assert list_retained("cy", "--dry-run") == []


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_successor_gets_the_rows_of_deleted_users(answer, tmp_path, engine):
    profile = PROFILE.replace(
        'fields = { login = "login" }', 'fields = { login = "login" }\nsuccessor = { boss = 9 }'
    )
    (tmp_path / "club.toml").write_text(profile)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
            "create table notes (id integer primary key, person integer)",
            "create table posts (author integer)",
            "create table files (owner integer)",
            "insert into people values (1, 'ida', null), (2, 'bo', null), (3, 'nobody', 9), (4, 'cy', null)",
            "insert into posts values (1), (1), (2)",
            "insert into files values (1), (2)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        assert answer("users", "delete", "nobody", "--yes", *options, status=2)["error"]["code"] == "usage"
        answer("users", "delete", "ida", "--yes", *options)
        assert database.rows("select author from posts order by 1") == [(2,), (3,), (3,)]
        assert database.rows("select owner from files order by 1") == [(2,), (3,)]
        answer("users", "delete", "bo", "--transfer-to", "cy", "--yes", *options)
        assert database.rows("select author from posts order by 1") == [(3,), (3,), (4,)]
        for change, problem in (
            ("insert into people values (5, 'other', 9)", "several rows of people"),
            ("update people set boss = null", "no row of people"),
        ):
            database.run(change)
            message = answer("users", "delete", "cy", "--yes", *options, status=2)["error"]["message"]
            assert problem in message
            assert "--transfer-to" in message
        assert database.rows("select count(*) from people") == [(3,)]


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        ("sqlite", "integer primary key"),
        ("postgresql", "serial primary key"),
        ("mysql", "integer primary key auto_increment"),
    ],
)
def test_new_user_gets_the_first_value_that_users_have(answer, tmp_path, engine, key):
    only = 'fields = { login = "login" }\nonly = { kind = ["person", "bot"] }'
    profile = PROFILE.replace('fields = { login = "login" }', only).replace(', codec = "given"', "")
    (tmp_path / "club.toml").write_text(profile)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(f"create table people (id {key}, login varchar(9) not null unique, kind varchar(9))")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "create", "ida", *options)
        assert database.rows("select login, kind from people") == [("ida", "person")]


def test_column_that_a_deployment_lacks_leaves_the_others_of_a_new_user(answer, tmp_path):
    new = '[users.new]\n"nick?" = "none"\nkind = "person"\n'
    (tmp_path / "club.toml").write_text(PROFILE.replace(', codec = "given"', "") + new)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run("create table people (id integer primary key, login varchar(9) unique, kind varchar(9))")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "create", "ida", *options)
        assert database.rows("select login, kind from people") == [("ida", "person")]


def test_app_without_passwords_checks_none(answer, tmp_path):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run("create table people (id integer primary key, login varchar(9) not null unique)")
        database.run("insert into people values (1, 'ida')")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer(
            "users", "check-password", "ida", "--password-file", "none.txt", *options, status=None
        )["error"]
        assert error["code"] == "feature-missing"


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("sqlite", "boolean"), ("postgresql", "boolean"), ("mysql", "boolean"), ("mysql", "varchar(9)")],
)
def test_rows_of_a_user_are_those_with_the_value_of_the_path(answer, tmp_path, engine, kind):
    """A list whose table the deployment lacks hides no other list."""
    lists = """
[users.related.visits]
rows = "visits.person"
columns = ["id"]
[users.related.notes]
rows = "notes[hidden=true].person"
columns = ["id"]
"""
    (tmp_path / "club.toml").write_text(
        PROFILE.replace('cascade = ["notes.person"]', 'cascade = ["notes[hidden=true].person"]') + lists
    )
    value = "'true'" if kind != "boolean" else "true"
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
            f"create table notes (id integer primary key, person integer, hidden {kind})",
            "create table log (kind varchar(9), person integer, editor integer)",
            "create table posts (author integer)",
            "create table files (owner integer)",
            "insert into people values (1, 'ida', null)",
            f"insert into notes values (7, 1, {value}), (8, 1, null), (9, 2, {value})",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        shown = answer("users", "show", "ida", *options)["data"]
        assert shown["notes"] == [7]
        answer("users", "delete", "ida", "--yes", *options)
        assert database.rows("select id from notes order by 1") == [(8,), (9,)]


TABLES = [
    "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
    "create table notes (id integer primary key, person integer)",
    "create table log (kind varchar(9), person integer, editor integer)",
    "create table posts (author integer)",
    "create table files (id integer primary key, owner integer, name varchar(9), note varchar(9))",
    "insert into people values (1, 'ida', null), (2, 'bo', null), (3, 'cy', null)",
]


def test_rows_of_missing_tables_hide_no_other_rows(answer, tmp_path):
    text = PROFILE.replace(
        '["notes.person"]', '["drafts?.person", "log.person -> drafts?.person", "notes.person"]'
    )
    text = text.replace('"archive?.person"', '"log.editor -> drafts?.person" = "history"\n"archive?.person"')
    text += '[[users.transfer]]\ntable = "drafts?"\ncolumn = "author"\n'
    (tmp_path / "club.toml").write_text(text)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES, "insert into notes values (7, 1), (8, 2)", "insert into log values ('note', 2, 2)"
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "delete", "ida", "--transfer-to", "bo", "--yes", *options)
        assert database.rows("select id from notes") == [(8,)]
        answer("users", "delete", "bo", "--yes", *options)
        assert database.rows("select id from notes") == []


@pytest.mark.parametrize("path", ["files.owner", "notes.person"])
def test_transferred_rows_are_not_deleted_and_hide_no_other_rows(answer, tmp_path, path):
    others = {"files.owner", "notes.person"} - {path}
    text = PROFILE.replace('["notes.person"]', f'["{path}", "{others.pop()}"]')
    (tmp_path / "club.toml").write_text(text)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES, "insert into notes values (7, 1), (8, 2)", "insert into files (id, owner) values (1, 1)"
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "delete", "ida", "--transfer-to", "bo", "--yes", *options)
        assert database.rows("select id from notes") == [(8,)]
        assert database.rows("select id, owner from files") == [(1, 2)]


def test_duplicates_of_several_users_are_found_behind_rows_without_a_value(answer, tmp_path):
    once = 'column = "owner"\nonce = ["name"]'
    (tmp_path / "club.toml").write_text(PROFILE.replace('column = "owner"', once))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES,
            "insert into files (id, owner, name) values (1, 1, null), (2, 1, 'a'), (4, 1, 'b')",
            "insert into files (id, owner, name) values (5, 2, null), (6, 2, 'b'), (7, 2, 'c'), (8, 3, 'c')",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        words = ("users", "delete", "ida", "bo", "--transfer-to", "cy", *options)
        error = answer(*words, "--yes", status=6)["error"]
        assert (error["code"], "2 rows of files (name)" in error["message"]) == ("duplicate-rows", True)
        data = answer(*words, "--delete-duplicates", "--yes")["data"]
        assert (data["duplicates"], data["transferred"]) == ({"files": 2}, {"files": 4})
        rows = database.rows("select id, owner, name from files order by id")
        assert rows == [(1, 3, None), (2, 3, "a"), (4, 3, "b"), (5, 3, None), (8, 3, "c")]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_duplicates_of_two_transfers_of_a_table_are_planned_and_deleted(answer, tmp_path, engine):
    transfers = "".join(
        f'[[users.transfer]]\ntable = "follows"\ncolumn = "{column}"\nonce = ["{other}"]\n'
        for column, other in (("follower", "followed"), ("followed", "follower"))
    )
    owned = 'cascade = ["notes.person", "follows.guide"]'
    (tmp_path / "club.toml").write_text(PROFILE.replace('cascade = ["notes.person"]', owned) + transfers)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            *TABLES,
            "insert into people values (4, 'di', null), (5, 'ed', null)",
            "create table follows (follower integer, followed integer, guide integer, primary key (follower, followed))",
            # ida leaves: (1, 3) and (4, 1) have equal rows of bo
            "insert into follows values (1, 3, null), (2, 3, null), (4, 1, null), (4, 2, null), (5, 1, null), (3, 5, 1)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        words = ("users", "delete", "ida", "--transfer-to", "bo", "--delete-duplicates", *options)
        plan = answer(*words, "--dry-run")["data"]["plan"]
        assert [step for step in plan["steps"] if "follows" in step] == [
            "transfer 1 row of follows to bo",
            "delete 1 row of follows",
            "delete 1 row of follows, which bo has too (followed)",
            "delete 1 row of follows, which bo has too (follower)",
        ]
        assert (plan["rows"]["follows"], plan["deleted"]["follows"]) == (4, 3)
        data = answer(*words, "--yes")["data"]
        assert (data["duplicates"], data["transferred"]) == ({"follows": 2}, {"follows": 1})
        rows = database.rows("select follower, followed from follows order by 1, 2")
        assert rows == [(2, 3), (4, 2), (5, 2)]


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("sqlite", "varchar(9) collate nocase"),
        ("mysql", "varchar(9) character set utf8mb4 collate utf8mb4_general_ci"),
    ],
)
def test_duplicates_of_deleted_users_are_compared_as_the_database_compares_them(
    answer, tmp_path, engine, name
):
    once = 'table = "tags"\ncolumn = "owner"\nonce = ["name"]'
    (tmp_path / "club.toml").write_text(PROFILE.replace('table = "files"\ncolumn = "owner"', once))
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            *TABLES,
            f"create table tags (id integer primary key, owner integer, name {name}, unique (owner, name))",
            "insert into tags values (1, 1, 'Rock'), (2, 2, 'rock'), (3, 2, 'Jazz'), (4, 3, 'jazz')",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        words = ("users", "delete", "ida", "bo", "--transfer-to", "cy", *options)
        error = answer(*words, "--yes", status=6)["error"]
        assert (error["code"], "2 rows of tags (name)" in error["message"]) == ("duplicate-rows", True)
        answer(*words, "--delete-duplicates", "--yes")
        assert database.rows("select id, owner from tags order by id") == [(1, 3), (4, 3)]


def test_duplicates_of_the_successor_are_deleted_with_the_user(answer, tmp_path):
    once = 'column = "owner"\nonce = ["name"]'
    successor = "successor = { id = 3 }\ncascade ="
    (tmp_path / "club.toml").write_text(
        PROFILE.replace('column = "owner"', once).replace("cascade =", successor, 1)
    )
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES, "insert into files (id, owner, name) values (1, 1, 'a'), (2, 1, 'b'), (3, 3, 'b')"
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer("users", "delete", "ida", "--yes", *options, status=6)["error"]
        assert (error["code"], "--delete-duplicates" in error["hint"]) == ("duplicate-rows", True)
        data = answer("users", "delete", "ida", "--delete-duplicates", "--yes", *options)["data"]
        assert (data["duplicates"], data["transferred"]) == ({"files": 1}, {"files": 1})
        assert database.rows("select id, owner, name from files order by id") == [(1, 3, "a"), (3, 3, "b")]


def test_duplicates_without_a_transfer_are_refused(answer, tmp_path):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(*TABLES)
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "delete", "ida", "--delete-duplicates", "--yes", *options, status=2)


def test_new_owner_among_deleted_users_is_refused(answer, tmp_path):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(*TABLES)
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        words = ("users", "delete", "ida", "bo", "--transfer-to", "bo", "--yes")
        error = answer(*words, *options, status=2)["error"]
        assert (error["code"], "bo is deleted too" in error["message"]) == ("usage", True)
        assert len(database.rows("select id from people")) == 3


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_values_of_paths_have_the_types_of_their_columns(answer, tmp_path, engine):
    paths = ["marks[level=3].person", "marks[code=7].editor", "marks[note=x].author"]
    (tmp_path / "club.toml").write_text(PROFILE.replace('["notes.person"]', str(paths).replace("'", '"')))
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            *TABLES[:5],
            (
                "create table marks (id integer, level integer, code varchar(9), note varchar(9), person integer,"
                " editor integer, author integer)"
            ),
            "insert into people values (1, 'ida', null)",
            "insert into marks values (1, 3, '3', '3', 1, null, null), (2, 7, '7', '7', null, 1, null),"
            " (3, 1, '1', 'x', null, null, 1), (4, 1, '1', '1', 1, 1, 1)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "delete", "ida", "--yes", *options)
        assert [key for (key,) in database.rows("select id from marks")] == [4]


def test_path_requires_a_key_of_one_column_or_names_one(answer, tmp_path):
    path = "parts.doc -> docs.person"
    (tmp_path / "club.toml").write_text(PROFILE.replace("notes.person", path))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES,
            "create table docs (id integer, version integer, person integer, primary key (id, version))",
            "create table parts (id integer primary key, doc integer)",
            "insert into docs values (5, 1, 1), (6, 1, 2)",
            "insert into parts values (1, 5), (2, 6)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer("users", "delete", "ida", "--yes", *options, status=2)["error"]
        assert (error["code"], "a primary key of docs" in error["message"]) == ("schema-mismatch", True)


def test_lists_of_a_user_have_the_columns_that_the_deployment_has(answer, tmp_path):
    lists = """
[users.related.log]
rows = "log.person"
columns = ["kind", "editor", "extra?"]
order = "-editor"
[users.related.pairs]
rows = "log.person"
columns = ["editor", "extra?"]
order = "editor"
limit = 2
[users.related.extra]
rows = "log.person"
columns = ["kind", "extra"]
"""
    (tmp_path / "club.toml").write_text(PROFILE + lists)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(*TABLES, "insert into log values ('a', 1, 9), ('b', 1, 10), ('c', 1, 11), ('d', 2, 12)")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        shown = answer("users", "show", "ida", *options)["data"]
        assert [row["kind"] for row in shown["log"]] == ["c", "b", "a"]
        assert shown["log"][0] == {"kind": "c", "editor": 11}
        assert (shown["pairs"], "extra" in shown) == ([9, 10], False)
        (tmp_path / "more.toml").write_text(PROFILE + lists)
        database.run("alter table log add column extra varchar(9)")
        shown = answer("users", "show", "ida", "--profile", str(tmp_path / "more.toml"), *options[2:])["data"]
        assert shown["log"][0] == {"kind": "c", "editor": 11, "extra": None}
        assert shown["extra"][0] == {"kind": "a", "extra": None}


def test_counts_of_a_user_are_those_of_the_paths_that_exist(answer, tmp_path):
    counts = '[users.counts]\nposts = "posts.author"\nlines = "log.editor -> people.boss"\nlost = "drafts.author"\n'
    (tmp_path / "club.toml").write_text(PROFILE.replace("[users.retained]", f"{counts}[users.retained]"))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES, "update people set boss = 1 where id = 2", "insert into posts values (1), (1), (2)"
        )
        database.run("insert into log values ('a', 3, 2), ('b', 3, 3)")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        statistics = answer("users", "show", "ida", *options)["data"]["statistics"]
        assert statistics == {"posts": 2, "lines": 1, "lost": None}


def test_names_of_rows_to_which_a_user_refers_are_shown(answer, tmp_path):
    fields = 'fields = { login = "login", boss = "boss" }\nlookup = { boss = { table = "ranks", key = "id", name = "title" } }'
    (tmp_path / "club.toml").write_text(PROFILE.replace('fields = { login = "login" }', fields))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(*TABLES, "update people set boss = id + 5 where id < 3")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        assert "boss_name" not in answer("users", "show", "ida", *options)["data"]
        database.run(
            "create table ranks (id integer primary key, title varchar(9))",
            "insert into ranks values (6, 'chief')",
        )
        names = [
            answer("users", "show", login, *options)["data"].get("boss_name", "none")
            for login in ("ida", "bo", "cy")
        ]
        assert names == ["chief", None, "none"]
        listed = answer("users", "list", "--filter", "boss=chief", *options)["data"]["items"]
        assert [user["login"] for user in listed] == ["ida"]


def test_rows_of_a_user_are_listed_in_the_order_of_their_times(answer, tmp_path):
    lists = '[users.related.visits]\nrows = "visits.person"\ncolumns = ["id"]\norder = "-at"\n'
    (tmp_path / "club.toml").write_text(PROFILE + lists)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *TABLES,
            "create table visits (id integer primary key, person integer, at datetime)",
            "insert into visits values (1, 1, '2026-01-01T11:00:00.000Z'), (2, 1, '2026-01-01 11:30:00')",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        assert answer("users", "show", "ida", *options)["data"]["visits"] == [2, 1]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_rows_whose_foreign_key_of_two_columns_becomes_null_are_not_retained(answer, tmp_path, engine):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, team integer, login varchar(9), boss integer, unique (team, id))",
            "create table notes (id integer primary key, person integer)",
            "create table log (kind varchar(9), person integer, editor integer)",
            "create table files (id integer primary key, team integer, owner integer,"
            " foreign key (team, owner) references people (team, id) on delete set null)",
            "create table posts (author integer)",
            "insert into people values (1, 7, 'ida', null), (2, 7, 'bo', null)",
            "insert into files values (1, 7, 1)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        plan = answer("users", "delete", "ida", "--dry-run", *options)["data"]["plan"]
        assert (plan["retained"], plan["steps"][1:]) == (
            [],
            ["keep 1 row of files, and set team, owner to NULL"],
        )
