"""Users in and out of files: everything or nothing, exact both ways, and every mistake with its place."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing, suppress

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl import signals
from dbctl.errors import DbctlError, ImportInvalidError, PlanChangedError, UsageError
from dbctl.model import Secret, Window
from dbctl.render.values import jsonable
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import import_export
from dbctl.services.users import queries as users
from dbctl.services.users.files import Existing, read_lines
from dbctl.services.users.queries import Filter
from tests.services import flashpoint_app
from tests.services.flashpoint_app import caught, content, opened, rows, run
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user

HASH = PASSWORD_HASH
GOOD = f"username,email,password_hash\nzoe,zoe@example.org,{HASH}\nyan,yan@example.org,{HASH}\n"


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    return flashpoint_app.settle(tmp_path / "here", request.param)


def imported(path, text, name="users.csv", **options):
    with opened(path) as app:
        raw = text if isinstance(text, bytes) else text.encode()
        return import_export.import_users(app, read_lines(raw, name), file=name, **options).apply()


def refused(path, text, name="users.csv", error=ImportInvalidError, **options):
    """Check that nothing is imported, by plan or by deed; return message and hint."""
    before = content(path)
    raised = caught(error, lambda: imported(path, text, name, **options))
    with opened(path) as app:
        lines = read_lines(text if isinstance(text, bytes) else text.encode(), name)
        planned = import_export.import_users(app, lines, file=name, **options)
        assert str(caught(error, planned.plan)) == str(raised)
    assert content(path) == before
    return f"{raised}\n{raised.hint}"


def exported(path, *, secrets=True):
    with opened(path) as app:
        return list(import_export.export_users(app, secrets=secrets).items)


def as_csv(items):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(items[0]))
    writer.writeheader()
    writer.writerows([{key: _cell(jsonable(value)) for key, value in item.items()} for item in items])
    return text.getvalue()


def _cell(value):
    return value if value is None or isinstance(value, str) else json.dumps(value)


def as_json(items):
    return json.dumps(jsonable(items))


def as_answer(items):
    return json.dumps(
        {"schema": "dbctl.users.export/1", "data": {"items": jsonable(items), "total": len(items)}}
    )


def as_lines(items):
    return "".join(json.dumps(jsonable(item), ensure_ascii=False) + "\n" for item in items)


# Round trip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("u.csv", as_csv),
        ("-", as_csv),
        ("u.json", as_json),
        ("-", as_json),
        ("u.json", as_answer),
        ("-", as_answer),
        ("u.jsonl", as_lines),
        ("-", as_lines),
    ],
)
@pytest.mark.parametrize("to", flashpoint_app.SHAPES)
def test_what_was_exported_and_imported_elsewhere_exports_the_same(path, tmp_path, to, name, written):
    for odd in ('O\'Brien "x"', "a,b;c\\d", "日本語", "=1+1", "line\u2028sep"):
        if odd.isprintable():
            add_user(path, odd, email=f"user{len(odd)}-{ord(odd[-1])}@example.org", active=False)
    run(
        path, "delete from users where username = 'bob'", "update users set last_login_at = null where id = 1"
    )
    there = flashpoint_app.settle(tmp_path / "there", to)
    run(there, "delete from users")
    items = exported(path)
    assert len(items) == 6
    assert imported(there, written(items), name).added == 6
    assert exported(there) == items


def test_an_app_with_keys_that_are_no_numbers_exports_the_same_too(tmp_path):
    here, there = (
        flashpoint_app.settle_larder(tmp_path / "here"),
        flashpoint_app.settle_larder(tmp_path / "there"),
    )
    run(there, "delete from members")
    items = exported(here)
    assert [item["username"] for item in items] == ["ana", "olav", "pip", "木下"]
    assert imported(there, as_csv(items), "x.csv").added == 4
    assert exported(there) == items
    assert rows(there, "select typeof(joined_ms), kind, enabled from members where handle = 'olav'") == [
        ("integer", "guest", 0)
    ]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    people_there=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=3, max_size=20),
            st.booleans(),
            st.sampled_from(["admin", "user", "guest"]),
            st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
        ),
        unique_by=lambda user: user[0].lower(),
        max_size=5,
    ),
    written=st.sampled_from([("x.csv", as_csv), ("x.json", as_json), ("x.jsonl", as_lines)]),
)
def test_any_user_that_the_app_takes_comes_back_the_same(tmp_path_factory, people_there, written):
    folder = tmp_path_factory.mktemp("any")
    first, second = (
        flashpoint_app.settle(folder / "1", "deployed"),
        flashpoint_app.settle(folder / "2", "document"),
    )
    run(second, "delete from users")
    told = [
        {"username": name, "email": f"u{at}@example.org", "active": active, "role": role, "last_login_at": seen, "password_hash": HASH}
        for at, (name, active, role, seen) in enumerate(people_there)
    ]  # fmt: skip
    taken = {"root", "ann", "bob"}
    told = [user for user in told if user["username"].lower() not in taken]
    assert imported(first, as_json(told), "x.json").added == len(told)
    imported(second, written[1](exported(first)), written[0])
    assert exported(first) == exported(second)


def test_an_export_holds_hashes_only_when_asked(path):
    assert "password_hash" not in exported(path, secrets=False)[0]
    assert HASH not in repr(exported(path, secrets=False))
    assert exported(path)[0]["password_hash"] == HASH


def test_a_list_of_users_can_be_imported_elsewhere_with_new_passwords(path, tmp_path):
    there = flashpoint_app.settle(tmp_path / "there", "deployed")
    run(there, "delete from users")
    with opened(path) as app:
        listed = as_answer(list(users.list_users(app, Filter(), Window()).items))
    done = imported(there, listed, "-", generate=True)
    assert [made.login for made in done.generated] == ["root", "ann", "bob"]
    for made in done.generated:
        with opened(there) as app:
            who = users.find_single_user(app, UserSelector(logins=[made.login]))
            assert users.check_password(app, who, Secret(made.password)).matches


# What goes in --------------------------------------------------------------------------------------------------


def test_passwords_are_hashed_and_what_is_not_said_is_as_the_app_does_it(path):
    done = imported(path, "username,email,password\nzoe,zoe@example.org,s3cret word\n")
    assert (done.added, done.skipped, done.generated) == (1, 0, [])
    ((role, active, hashed, details),) = rows(
        path,
        "select role_id, is_active, password_hash, (select details from activity_logs order by id desc limit 1) from users where id = 4",
    )
    assert (role, active) == (2, 1)
    assert bcrypt.checkpw(b"s3cret word", hashed.encode())
    assert json.loads(details)["added"] == 1
    assert "s3cret" not in details


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.rstrip("\n").encode(),
        GOOD.replace("\n", "\n\n").encode(),
        GOOD.replace("username,email", " username , email ").encode(),
        GOOD.replace("zoe,", '"zoe",').encode(),
        GOOD.replace("username", "id,login,username")
        .replace("zoe,zoe", "9,x,zoe,zoe")
        .replace("yan,yan", "1,ann,yan,yan")
        .encode(),
    ],
)
def test_csv_comes_in_many_forms(path, raw):
    assert imported(path, raw).added == 2
    assert rows(path, "select username from users where id > 3") == [("zoe",), ("yan",)]


def test_a_file_without_users_is_nothing_to_do(path):
    before = content(path)
    for name, text in (("u.json", "[]"), ("u.csv", "username,email,password\n"), ("u.jsonl", "\n\n")):
        assert imported(path, text, name).added == 0
    assert content(path) == before


def test_existing_users_are_an_error_or_skipped(path):
    text = GOOD + f"ANN,elsewhere@example.org,{HASH}\n"
    assert "line 4" in refused(path, text)
    done = imported(path, text, existing=Existing.SKIP)
    assert (done.added, done.skipped) == (2, 1)
    before = content(path)
    assert imported(path, text, existing=Existing.SKIP).added == 0
    assert content(path) == before


def test_a_new_name_with_somebody_elses_address_is_never_skipped(path):
    told = refused(
        path, f"username,email,password_hash\nnewann,Ann@example.org,{HASH}\n", existing=Existing.SKIP
    )
    assert "line 2" in told
    assert "Ann@example.org" in told


def test_one_users_name_may_be_another_ones_address_as_in_the_app(path):
    assert (
        imported(path, f"username,email,password_hash\nann@example.org,zoe@example.org,{HASH}\n").added == 1
    )


# What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ab,ab@example.org,123456", "3 to 50"),
        ("abc,abc,123456", "name@example.org"),
        ("abc,abc@example.org,12345", "6 to 128"),
        ("abc,abc@example.org,", "password is missing"),
        (",abc@example.org,123456", "username is missing"),
        ("abc,,123456", "needs email"),
        ("ann,abc@example.org,123456", "already has username"),
        ("abc,ANN@example.org,123456", "already has email"),
        ("FINE,abc@example.org,123456", "line 2 has it too"),
        ("abc,Fine@Example.org,123456", "line 2 has it too"),
        ("a\x1b[2Jc,abc@example.org,123456", "cannot be seen"),
        ("a\u202ec,abc@example.org,123456", "cannot be seen"),
        (f"{'a' * 200_000},abc@example.org,123456", "200000 characters"),
        (f"abc,abc@example.org,{'x' * 200_000}", "200000 characters"),
        ("abc,abc@example.org,a\x00bcdef", "NUL"),
        (" abc,abc@example.org,123456", "blank"),
    ],
)
def test_a_wrong_line_is_named_with_its_reason(path, line, reason):
    told = refused(path, f"username,email,password\nfine,fine@example.org,123456\n{line}\n")
    assert "1 of the rows" not in told
    assert "1 of 2" in told
    assert "line 3" in told
    assert reason in told
    assert len(told) < 600


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ({"username": ["abc"]}, "no text"),
        ({"username": {"a": 1}}, "no text"),
        ({"username": True}, "no text"),
        ({"password": 12345678}, "no text"),
        ({"password": "abcdef\ud800"}, "half"),
        ({"username": "abc\ud800"}, "cannot be seen"),
        ({"active": "perhaps"}, "neither true nor false"),
        ({"active": 7}, "neither true nor false"),
        ({"role": "king"}, "no role"),
        ({"created_at": "soon"}, "2026-01-31"),
        ({"password": None}, "password is missing"),
        ({"password_hash": HASH}, "both"),
        ({"password": None, "password_hash": "plain"}, "no bcrypt hash"),
        ({"password": None, "password_hash": "$2b$04$short"}, "no bcrypt hash"),
    ],
)
def test_a_wrong_entry_is_named_with_its_reason(path, user, reason):
    fine = {"username": "fine", "email": "fine@example.org", "password": "123456"}
    other = {"username": "abc", "email": "abc@example.org", "password": "123456"} | user
    told = refused(path, json.dumps([fine, other]), "u.json")
    assert "entry 2" in told
    assert reason in told
    assert "123456" not in told
    assert HASH not in told


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("u.csv", b"", "empty"),
        ("u.csv", b"\n", "empty"),
        ("u.csv", b"username,email\na,b,c\n", "line 2 has 3 fields"),
        ("u.csv", b"username,username\na,b\n", "twice"),
        ("u.csv", b'username,email\n"a,b\n', "line 2"),
        ("u.csv", b'username,email\n"a"x,b\n', "line 2"),
        ("u.csv", b"username\nok\n\xff\xfe\n", "line 3: it is not UTF-8"),
        ("u.csv", GOOD.encode("utf-16"), "not UTF-8"),
        ("u.json", b"{", "no JSON"),
        ("u.json", b"[" * 200_000, "deep"),
        ("u.json", b"[" + b"1" * 5000 + b"]", "4300"),
        ("u.json", b"[1]", "entry 1 is no user"),
        ("u.json", b'"users"', "list of users"),
        ("u.json", b'{"data": null, "error": {}}', "list of users"),
        ("u.jsonl", b'{"username": "a"}\n[]\n', "line 2 is no user"),
        ("u.jsonl", b'{"username": "a"}\n{\n', "line 2: it is no JSON"),
        ("-", b'{"username": "a"}\n\n{]\n', "line 3: it is no JSON"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(name, raw, reason):
    told = str(caught(UsageError, lambda: read_lines(raw, name)))
    assert told.startswith(name)
    assert reason in told


@settings(max_examples=300)
@given(raw=st.binary(max_size=200), name=st.sampled_from(["u.csv", "u.json", "u.jsonl", "-"]))
def test_any_bytes_are_users_or_our_error(raw, name):
    with suppress(UsageError):
        assert isinstance(read_lines(raw, name), list)


def test_an_unknown_column_is_refused_before_anything_else(path):
    told = refused(path, "username;email;password\na;b;c\n", error=UsageError)
    assert "line 2: unknown column 'username;email;password'; known: username, email" in told
    refused(path, '[{"username": "abc", "is_admin": true}]', "u.json", error=UsageError)


def test_every_wrong_line_is_told_up_to_a_page_and_the_rest_counted(path):
    text = "username,email,password\n" + "".join(
        f"u{number},no address,123456\n" for number in range(100, 150)
    )
    told = refused(path, text)
    assert "50 of 50" in told
    assert all(f"line {number}:" in told for number in range(2, 22))
    assert "line 22:" not in told
    assert "and 30 more" in told


def test_one_wrong_line_among_a_thousand_keeps_all_out_before_anything_is_hashed(path):
    text = (
        "username,email,password\n"
        + "".join(f"user{n},user{n}@example.org,123456\n" for n in range(1000))
        + "x,y,z\n"
    )
    hashed = []
    assert "1 of 1001" in refused(path, text, advance=hashed.append)
    assert hashed == []


def test_a_plan_hashes_nothing(path):
    with opened(path) as app:
        counted = []
        lines = read_lines(b"username,email,password\nzoe,zoe@example.org,123456\n", "u.csv")
        prepared = import_export.import_users(app, lines, file="u.csv", advance=counted.append)
        assert prepared.plan().rows == {"users": 1}
        assert counted == []


def test_somebody_added_while_passwords_were_hashed_is_noticed(path):
    lines = read_lines(
        b"username,email,password\nzoe,zoe@example.org,123456\nyan,yan@example.org,123456\n", "u.csv"
    )
    with opened(path) as app:
        prepared = import_export.import_users(
            app,
            lines,
            file="u.csv",
            advance=lambda _done: run(
                path,
                "insert or ignore into users (username, email, password_hash, role_id) values ('ZOE', 'z@example.org', '', 2)",
            ),
        )
        assert "already has username" in str(caught(ImportInvalidError, prepared.apply))
    assert rows(path, "select count(*) from users") == [(4,)]


def test_somebody_deleted_while_passwords_were_hashed_is_not_added_without_one(path):
    lines = read_lines(
        b"username,email,password\nann,ann@example.org,123456\nyan,yan@example.org,123456\n", "u.csv"
    )
    with opened(path) as app:
        prepared = import_export.import_users(
            app,
            lines,
            file="u.csv",
            existing=Existing.SKIP,
            advance=lambda _done: run(path, "delete from users where username = 'ann'"),
        )
        caught(PlanChangedError, prepared.apply)
    assert rows(path, "select username from users order by id") == [("root",), ("bob",)]


def test_what_the_database_refuses_undoes_all(path):
    run(
        path,
        "create trigger stop before insert on users when new.username = 'yan' begin select raise(abort, 'not yan'); end",
    )
    before = content(path)
    assert "not yan" in str(caught(DbctlError, lambda: imported(path, GOOD)))
    assert content(path) == before


# Speed and signals ---------------------------------------------------------------------------------------------


def test_while_it_hashes_it_holds_no_lock(path):
    text = "username,email,password\n" + "".join(f"user{n},user{n}@example.org,123456\n" for n in range(20))
    told = []

    def write(hashed):  # as an app would that does not wait
        told.append(hashed)
        with closing(sqlite3.connect(path, timeout=0)) as app, app:
            app.execute("update roles set description = ? where id = 3", (str(len(told)),))

    assert imported(path, text, advance=write).added == 20
    assert sum(told) == 20


def test_a_file_four_times_as_long_takes_four_times_as_many_steps(tmp_path):
    def steps(users):
        """Count the calls, of Python's and of C's functions, that importing so many takes."""
        path = flashpoint_app.settle(tmp_path / str(users), "deployed")
        text = "username,email,password_hash\n" + "".join(
            f"user{n},user{n}@example.org,{HASH}\n" for n in range(users)
        )
        counted = Counter()
        sys.setprofile(lambda _frame, event, _about: counted.update((event,)))
        try:
            assert imported(path, text).added == users
        finally:
            sys.setprofile(None)
        return counted["call"] + counted["c_call"]

    steps(10)
    assert steps(2_000) < 4.5 * steps(500)


def test_hashing_ends_at_once_when_a_signal_came(path):
    text = "username,email,password\n" + "".join(f"user{n},user{n}@example.org,123456\n" for n in range(2000))
    before = content(path)
    seen = []

    def advance(_done):
        seen.append(1)
        if len(seen) == 5:
            signals._received.append(signal.SIGTERM)

    try:
        with opened(path) as app:
            prepared = import_export.import_users(
                app, read_lines(text.encode(), "u.csv"), file="u.csv", advance=advance
            )
            caught(signals.Interrupted, prepared.apply)
    finally:
        signals._received.clear()
    assert len(seen) < 500
    assert content(path) == before


def test_as_many_threads_hash_as_there_are_cores_for_this_process():
    assert import_export._cores() <= (os.cpu_count() or 1)
