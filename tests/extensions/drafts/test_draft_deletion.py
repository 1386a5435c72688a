"""Drafts describe what the deletion of a user needs: rows below cascaded rows, cycles, and references without a foreign key."""

from __future__ import annotations

import tomllib

import pytest

from tests.databases import empty_database

ENGINES = ["sqlite", "postgresql", "mysql"]
KEY = "integer primary key"
#: Books and shelves are deleted by foreign keys; nothing below them is, and books refer to their newest chapter.
LIBRARY = [
    f"create table users (id {KEY}, email varchar(80) not null unique, active boolean not null)",
    f"create table shelves (id {KEY}, owner_id integer not null references users (id) on delete cascade)",
    f"""create table books (id {KEY}, code varchar(40) not null unique,
        shelf_id integer not null references shelves (id) on delete cascade)""",
    f"create table chapters (id {KEY}, book varchar(40) not null references books (code))",
    f"create table sheets (id {KEY}, chapter_id integer not null references chapters (id))",
    f"create table notes (id {KEY}, chapter_id integer references chapters (id))",
    "alter table books add latest_id integer references chapters (id)",
    f"""create table reviews (id {KEY}, chapter_id integer not null references chapters (id),
        author_id integer not null references users (id) on delete cascade)""",
    "insert into users values (1, 'ada@example.org', true), (2, 'bo@example.org', true)",
    "insert into shelves values (1, 1), (2, 2)",
    "insert into books (id, code, shelf_id) values (1, 'rye', 1), (2, 'tea', 2)",
    "insert into chapters values (1, 'rye'), (2, 'rye'), (3, 'tea')",
    "insert into sheets values (1, 1), (2, 3)",
    "insert into notes values (1, 2), (2, 3)",
    "update books set latest_id = 2 where id = 1",
    "update books set latest_id = 1 where id = 2",
]
CHAPTERS = "chapters.book -> books(code).shelf_id -> shelves.owner_id"


class Drafted:
    """A database of an unknown app, and its draft."""

    def __init__(self, database, folder, answer) -> None:
        self.database, self.profile, self._answer = database, folder / "app.toml", answer
        self.options = ("--profile", str(self.profile), "--url", f"main={database.url}")

    def draft(self, *options: str) -> dict:
        self.profile.unlink(missing_ok=True)
        words = ("profiles", "draft", self.database.url, "--name", "app", "--to", str(self.profile), *options)
        text = self._answer(*words)["data"]["profile"]
        self.profile.write_text(text.replace("# admin = false", "admin = false"))
        return tomllib.loads(text)

    def run(self, *words: str, status: int | None = 0) -> dict:
        confirmed = ["--yes"] if words[0] not in ("apps", "audit") else []
        return self._answer(*words, *confirmed, *self.options, status=status)


@pytest.fixture(params=ENGINES)
def drafted(request, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(request.param, tmp_path / "app.db") as database:
        yield Drafted(database, tmp_path, answer)


def test_rows_below_cascaded_rows_are_deleted_or_cleared(drafted):
    drafted.database.run(*LIBRARY)
    users = drafted.draft()["users"]
    assert users["cascade"] == [f"sheets.chapter_id -> {CHAPTERS}", CHAPTERS]
    assert sorted(users["clear"]) == [f"books.latest_id -> {CHAPTERS}", f"notes.chapter_id -> {CHAPTERS}"]
    assert any(
        "reviews.chapter_id" in text
        for text in tomllib.loads(drafted.profile.read_text())["undecided"]["deletion"]
    )
    before = drafted.database.content()
    plan = drafted.run("users", "delete", "ada@example.org", "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"users": 1, "shelves": 1, "books": 2, "chapters": 2, "sheets": 1, "notes": 1}
    assert plan["deleted"] == {"users": 1, "shelves": 1, "books": 1, "chapters": 2, "sheets": 1}
    assert [step for step in plan["steps"] if step.startswith("keep")] == [
        "keep 1 row of books, and set latest_id to NULL",
        "keep 1 row of notes, and set chapter_id to NULL",
    ]
    drafted.run("users", "delete", "ada@example.org")
    assert drafted.database.rows("select id, latest_id from books") == [(2, None)]
    assert drafted.database.rows("select id, chapter_id from notes order by id") == [(1, None), (2, 3)]
    assert drafted.database.rows("select id from sheets") == [(2,)]
    operation = drafted.run("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]
    drafted.run("undo", str(operation))
    assert drafted.database.content() == before


def test_check_names_the_line_that_a_deletion_requires(drafted):
    drafted.database.run(*LIBRARY, "insert into reviews values (1, 2, 2)")
    drafted.draft()
    error = drafted.run("users", "delete", "ada@example.org", status=None)["error"]
    assert (error["code"], "apps check" in error["hint"]) == ("constraint", True)
    findings = drafted.run("apps", "check")["data"]["findings"]
    line = f"reviews.chapter_id -> {CHAPTERS}"
    owned = [finding for finding in findings if finding["code"] == "owned-rows"]
    assert len(owned) == 1, owned
    [finding] = owned
    assert (line in finding["message"], "users.cascade" in finding["hint"]) == (True, True)
    text = drafted.profile.read_text()
    drafted.profile.write_text(text.replace("cascade = [", f'cascade = [\n    "{line}",', 1))
    drafted.run("users", "delete", "ada@example.org")
    assert drafted.database.rows("select count(*) from reviews") == [(0,)]


def test_columns_with_logins_or_names_with_keys_are_references_without_a_key(drafted):
    key = "integer primary key"
    drafted.database.run(
        f"create table users (id {key}, email varchar(80) not null unique, active boolean not null)",
        "insert into users values (3, 'ada@example.org', true), (5, 'bo@example.org', true)",
        f"create table domain_admins (id {key}, username varchar(80) not null, domain varchar(80) not null)",
        "insert into domain_admins values (1, 'bo@example.org', 'example.org'), (2, 'ada@example.org', 'example.org')",
        f"create table tasks (id {key}, assigned_by integer, points integer)",
        "insert into tasks values (1, 5, 5), (2, 3, 3), (3, null, 5)",
        f"create table roles (id {key}, name varchar(80) not null unique)",
        "insert into roles values (1, '__user_5__'), (2, '__user_50__'), (3, 'reader')",
        f"create table rights (id {key}, role_id integer not null references roles (id))",
        "insert into rights values (1, 1), (2, 3)",
    )
    profile = drafted.draft()
    assert profile["users"]["cascade"] == []
    [open_rows] = profile["undecided"]["deletion"]
    assert "domain_admins.username (2 of 2 sampled values are logins of users (email))" in open_rows
    assert ("tasks.assigned_by" in open_rows, "points" in open_rows) == (True, False)
    assert "roles.name" in profile["undecided"]["rights"][0]
    assert drafted.run("users", "delete", "bo@example.org", status=6)["error"]["code"] == "decision-open"
    text = drafted.profile.read_text()
    rights = text.index("rights = [")
    text = text[:rights] + text[text.index("]\n", rights) + 2 :]
    drafted.profile.write_text(text)
    plan = drafted.run("users", "delete", "bo@example.org", "--dry-run")["data"]["plan"]
    assert any("domain_admins.username" in step for step in plan["steps"])
    deletion = text.index("deletion = [")
    text = text[:deletion] + text[text.index("]\n", deletion) + 2 :]
    for path in (
        '"roles.name=__user_{id}__"',
        '"domain_admins.username -> users(email).id"',
        '"tasks.assigned_by"',
    ):
        assert f"# {path}" in text
        text = text.replace(f"# {path}", path)
    text = text.replace("cascade = [", 'cascade = ["rights.role_id -> roles.name=__user_{id}__",', 1)
    drafted.profile.write_text(text)
    findings = drafted.run("apps", "check")["data"]["findings"]
    assert [finding for finding in findings if finding["severity"] != "info"] == []
    before = drafted.database.content()
    drafted.run("users", "delete", "bo@example.org")
    assert drafted.database.rows("select id from roles order by id") == [(2,), (3,)]
    assert drafted.database.rows("select id from rights") == [(2,)]
    assert drafted.database.rows("select id from domain_admins") == [(2,)]
    assert drafted.database.rows("select id from tasks order by id") == [(2,), (3,)]
    operation = drafted.run("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]
    drafted.run("undo", str(operation))
    assert drafted.database.content() == before


def test_rows_that_only_a_name_assigns_to_users_are_candidates(drafted):
    key = "integer primary key"
    drafted.database.run(
        f"create table users (id {key}, email varchar(80) not null unique, active boolean not null)",
        "insert into users values (1, 'ada@example.org', true), (2, 'bo@example.org', true)",
        f"create table notification (id {key}, user_id integer, name varchar(40))",
        "insert into notification values (1, 2, 'mail'), (2, 1, 'chat')",
        f"create table monitor (id {key}, user_id integer)",
        "insert into monitor values (1, 2), (2, 1)",
        f"create table remote (id {key}, user_id integer)",
        "insert into remote values (1, 2), (2, 99)",
        f"create table proxy (id {key}, user_id integer)",
    )
    profile = drafted.draft()
    assert profile["users"]["cascade"] == []
    assert [item["table"] for item in profile["users"]["transfer"]] == ["monitor"]
    text = " ".join(profile["undecided"]["deletion"])
    for path in ("notification.user_id", "proxy.user_id", "remote.user_id"):
        assert path in text
    findings = drafted.run("apps", "check")["data"]["findings"]
    owned = [finding["message"] for finding in findings if finding["code"] == "owned-rows"]
    assert all(any(name in message for message in owned) for name in ("notification", "proxy", "remote"))
    plan = drafted.run("users", "delete", "bo@example.org", "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"users": 1}
    assert any("notification.user_id" in step for step in plan["steps"])
    drafted.run("users", "delete", "bo@example.org")
    assert drafted.database.rows("select count(*) from notification") == [(2,)]


def test_foreign_keys_of_several_columns_refer_to_users(drafted):
    key = "integer primary key"
    refers = "foreign key (tenant, person) references users (tenant, id)"
    drafted.database.run(
        f"""create table users (id {key}, tenant integer not null, email varchar(80) not null unique,
            active boolean not null, unique (tenant, id))""",
        "insert into users values (1, 1, 'ada@example.org', true), (2, 1, 'bo@example.org', true)",
        f"create table sheets (id {key}, tenant integer not null, person integer not null, {refers})",
        "insert into sheets values (1, 1, 2)",
    )
    profile = drafted.draft()
    assert [(item["table"], item["column"]) for item in profile["users"]["transfer"]] == [
        ("sheets", "person")
    ]
    assert "sheets.person" in profile["undecided"]["deletion"][0]
    deletion = ("users", "delete", "bo@example.org")
    assert drafted.run(*deletion, status=6)["error"]["code"] == "constraint"
    drafted.run(*deletion, "--transfer-to", "ada@example.org")
    assert drafted.database.rows("select person from sheets") == [(1,)]
    findings = drafted.run("apps", "check")["data"]["findings"]
    assert [finding for finding in findings if finding["code"] == "owned-rows"] == []
