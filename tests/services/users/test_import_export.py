"""Import and export of users: atomic imports, exact round trips, and errors with their position."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import threading
from contextlib import closing, suppress

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl import signals
from dbctl.errors.base import DbctlError
from dbctl.errors.databases import ImportInvalidError
from dbctl.errors.usage import PlanChangedError, UsageError
from dbctl.model import PageRequest, Secret
from dbctl.render.text import jsonable
from dbctl.services.app.user_table import UserSelector
from dbctl.services.users import import_export, passwords
from dbctl.services.users import queries as users
from dbctl.services.users.files import Existing, read_lines
from dbctl.services.users.queries import UserFilter
from tests.call_count import count_calls
from tests.observed_progress import observe_progress
from tests.services import flashpoint_app
from tests.services.flashpoint_app import catch_error, open_app, query_rows, read_all_rows, run_statements
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user

HASH = PASSWORD_HASH
GOOD = f"username,email,password_hash\nzoe,zoe@example.org,{HASH}\nyan,yan@example.org,{HASH}\n"


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    return flashpoint_app.create_app(tmp_path / "here", request.param)


def import_file(path, text, name="users.csv", **options):
    with open_app(path) as app:
        raw = text if isinstance(text, bytes) else text.encode()
        return import_export.import_users(app, read_lines(raw, name), file=name, **options).apply()


def assert_refused(path, text, name="users.csv", error=ImportInvalidError, **options):
    """Assert that plan and import are refused; return message and hint."""
    before = read_all_rows(path)
    raised = catch_error(error, lambda: import_file(path, text, name, **options))
    with open_app(path) as app:
        lines = read_lines(text if isinstance(text, bytes) else text.encode(), name)
        planned = import_export.import_users(app, lines, file=name, **options)
        assert str(catch_error(error, planned.plan)) == str(raised)
    assert read_all_rows(path) == before
    return f"{raised}\n{raised.hint}"


def plan_steps(path, text, name="users.csv", **options):
    with open_app(path) as app:
        return (
            import_export.import_users(app, read_lines(text.encode(), name), file=name, **options)
            .plan()
            .steps
        )


def export(path, *, secrets=True):
    with open_app(path) as app:
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


def as_output(items):
    return json.dumps(
        {"schema": "dbctl.users.export/1", "data": {"items": jsonable(items), "total": len(items)}}
    )


def as_lines(items):
    return "".join(json.dumps(jsonable(item), ensure_ascii=False) + "\n" for item in items)


# Round trip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write_file"),
    [
        ("u.csv", as_csv),
        ("-", as_csv),
        ("u.json", as_json),
        ("-", as_json),
        ("u.json", as_output),
        ("-", as_output),
        ("u.jsonl", as_lines),
        ("-", as_lines),
    ],
)
@pytest.mark.parametrize("to", flashpoint_app.SHAPES)
def test_import_into_other_app_exports_identically(path, tmp_path, to, name, write_file):
    for username in ('O\'Brien "x"', "a,b;c\\d", "日本語", "=1+1", "line\u2028sep"):
        if username.isprintable():
            add_user(
                path, username, email=f"user{len(username)}-{ord(username[-1])}@example.org", active=False
            )
    run_statements(
        path, "delete from users where username = 'bob'", "update users set last_login_at = null where id = 1"
    )
    target = flashpoint_app.create_app(tmp_path / "target", to)
    run_statements(target, "delete from users")
    items = export(path)
    assert len(items) == 6
    assert import_file(target, write_file(items), name).added == 6
    assert export(target) == items


def test_app_with_text_keys_exports_identically(tmp_path):
    source, target = (
        flashpoint_app.create_larder(tmp_path / "source"),
        flashpoint_app.create_larder(tmp_path / "target"),
    )
    run_statements(target, "delete from members")
    items = export(source)
    assert [item["username"] for item in items] == ["ana", "olav", "pip", "木下"]
    assert import_file(target, as_csv(items), "x.csv").added == 4
    assert export(target) == items
    assert query_rows(
        target, "select typeof(joined_ms), kind, enabled from members where handle = 'olav'"
    ) == [("integer", "guest", 0)]


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    existing_users=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=3, max_size=20),
            st.booleans(),
            st.sampled_from(["admin", "user", "guest"]),
            st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "Z"),
        ),
        unique_by=lambda user: user[0].lower(),
        max_size=5,
    ),
    file_format=st.sampled_from([("x.csv", as_csv), ("x.json", as_json), ("x.jsonl", as_lines)]),
)
def test_any_valid_user_round_trips(tmp_path_factory, existing_users, file_format):
    folder = tmp_path_factory.mktemp("any")
    first, second = (
        flashpoint_app.create_app(folder / "1", "deployed"),
        flashpoint_app.create_app(folder / "2", "document"),
    )
    run_statements(second, "delete from users")
    users_to_add = [
        {"username": name, "email": f"u{number}@example.org", "active": active, "role": role, "last_login_at": last_login_at, "password_hash": HASH}
        for number, (name, active, role, last_login_at) in enumerate(existing_users)
    ]  # fmt: skip
    existing = {"root", "ann", "bob"}
    users_to_add = [user for user in users_to_add if user["username"].lower() not in existing]
    assert import_file(first, as_json(users_to_add), "x.json").added == len(users_to_add)
    import_file(second, file_format[1](export(first)), file_format[0])
    assert export(first) == export(second)


def test_indented_output_of_another_name_is_imported():
    document = {"schema": "dbctl.users.export/1", "data": {"items": [{"username": "zoe"}], "total": 1}}
    (line,) = read_lines(json.dumps(document, indent=2).encode(), "users.txt")
    assert (line.place, line.values) == ("entry 1", {"username": "zoe"})


def test_export_contains_hashes_only_with_secrets(path):
    assert "password_hash" not in export(path, secrets=False)[0]
    assert HASH not in repr(export(path, secrets=False))
    assert export(path)[0]["password_hash"] == HASH


def test_exported_list_is_imported_with_generated_passwords(path, tmp_path):
    target = flashpoint_app.create_app(tmp_path / "there", "deployed")
    run_statements(target, "delete from users")
    with open_app(path) as app:
        items = as_output(list(users.list_users(app, UserFilter(), PageRequest()).items))
    result = import_file(target, items, "-", generate=True)
    assert [generated.login for generated in result.generated] == ["root", "ann", "bob"]
    for generated in result.generated:
        with open_app(target) as app:
            user = users.find_single_user(app, UserSelector(logins=[generated.login]))
            assert passwords.compare_password(app, user, Secret(generated.password)).matches


# Accepted files ------------------------------------------------------------------------------------------------


def test_passwords_are_hashed_and_defaults_applied(path):
    result = import_file(path, "username,email,password\nzoe,zoe@example.org,s3cret word\n")
    assert (result.added, result.skipped, result.generated) == (1, 0, [])
    ((role, active, hashed, details),) = query_rows(
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
        GOOD.replace("\n", ",\n").encode(),  # an empty last column, as spreadsheets write it
        GOOD.replace("username", "id,login,username")
        .replace("zoe,zoe", "9,x,zoe,zoe")
        .replace("yan,yan", "1,ann,yan,yan")
        .encode(),
    ],
)
def test_csv_dialects_are_accepted(path, raw):
    assert import_file(path, raw).added == 2
    assert query_rows(path, "select username from users where id > 3") == [("zoe",), ("yan",)]


def test_reading_a_file_changes_no_limit_of_other_readers(path):
    before = csv.field_size_limit()
    import_file(path, GOOD)
    assert csv.field_size_limit() == before


def test_file_without_users_changes_nothing(path):
    before = read_all_rows(path)
    for name, text in (("u.json", "[]"), ("u.csv", "username,email,password\n"), ("u.jsonl", "\n\n")):
        assert import_file(path, text, name).added == 0
    assert read_all_rows(path) == before


def test_existing_users_are_an_error_or_skipped(path):
    text = GOOD + f"ANN,elsewhere@example.org,{HASH}\n"
    message = assert_refused(path, text)
    assert "line 4" in message
    assert "; use --existing skip to skip existing users" in message
    result = import_file(path, text, existing=Existing.SKIP)
    assert (result.added, result.skipped) == (2, 1)
    assert plan_steps(path, text.replace("zoe", "ute"), existing=Existing.SKIP) == [
        "add 1 user",
        "skip 2 existing users",
    ]
    assert plan_steps(path, text, existing=Existing.SKIP) == []
    before = read_all_rows(path)
    assert import_file(path, text, existing=Existing.SKIP).added == 0
    assert read_all_rows(path) == before


def test_skipped_line_leaves_its_address_to_another_line(path):
    text = f"username,email,password_hash\nann,zoe@example.org,{HASH}\nzoe,zoe@example.org,{HASH}\n"
    assert "zoe@example.org" in assert_refused(path, text)
    result = import_file(path, text, existing=Existing.SKIP)
    assert (result.added, result.skipped) == (1, 1)


def test_new_name_with_existing_email_is_refused(path):
    message = assert_refused(
        path, f"username,email,password_hash\nnewann,Ann@example.org,{HASH}\n", existing=Existing.SKIP
    )
    assert "line 2" in message
    assert "Ann@example.org" in message
    assert "--existing" not in message, "the option would not skip this line"


def test_name_may_equal_email_of_other_user(path):
    assert (
        import_file(path, f"username,email,password_hash\nann@example.org,zoe@example.org,{HASH}\n").added
        == 1
    )


# Refused files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ab,ab@example.org,123456", "3 to 50"),
        ("abc,abc,123456", "name@example.org"),
        ("abc,abc@example.org,12345", "6 to 128"),
        ("abc,abc@example.org,", "password is missing"),
        (",abc@example.org,123456", "username is missing"),
        ("abc,,123456", "requires email"),
        ("ann,abc@example.org,123456", "already has username"),
        ("abc,ANN@example.org,123456", "already has email"),
        ("FINE,abc@example.org,123456", "line 2 has it too"),
        ("abc,Fine@Example.org,123456", "line 2 has it too"),
        ("a\x1b[2Jc,abc@example.org,123456", "unprintable"),
        ("a\u202ec,abc@example.org,123456", "unprintable"),
        (f"{'a' * 200_000},abc@example.org,123456", "200,000 characters"),
        (f"abc,abc@example.org,{'x' * 200_000}", "200,000 characters"),
        ("abc,abc@example.org,a\x00bcdef", "NUL"),
        (" abc,abc@example.org,123456", "space"),
    ],
)
def test_invalid_line_is_reported_with_reason(path, line, reason):
    message = assert_refused(path, f"username,email,password\nfine,fine@example.org,123456\n{line}\n")
    assert "1 of the rows" not in message
    assert "1 of 2" in message
    assert "line 3" in message
    assert reason in message
    assert len(message) < 600


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ({"username": ["abc"]}, "not text"),
        ({"username": {"a": 1}}, "not text"),
        ({"username": True}, "not text"),
        ({"password": 12345678}, "not text"),
        ({"password": "abcdef\ud800"}, "half"),
        ({"username": "abc\ud800"}, "unprintable"),
        ({"active": "perhaps"}, "neither true nor false"),
        ({"active": 7}, "neither true nor false"),
        ({"role": "king"}, "no role"),
        ({"created_at": "soon"}, "2026-01-31"),
        ({"password": None}, "password is missing"),
        ({"password_hash": HASH}, "both"),
        ({"password": None, "password_hash": "plain"}, "not a bcrypt hash"),
        ({"password": None, "password_hash": "$2b$04$short"}, "not a bcrypt hash"),
    ],
)
def test_invalid_entry_is_reported_with_reason(path, user, reason):
    fine = {"username": "fine", "email": "fine@example.org", "password": "123456"}
    other = {"username": "abc", "email": "abc@example.org", "password": "123456"} | user
    message = assert_refused(path, json.dumps([fine, other]), "u.json")
    assert "entry 2" in message
    assert reason in message
    assert "123456" not in message
    assert HASH not in message


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("u.csv", b"", "empty"),
        ("u.csv", b"\n", "empty"),
        ("u.csv", b"username,email\na,b,c\n", "line 2 has 3 fields"),
        ("u.csv", b"username,username\na,b\n", "duplicate"),
        ("u.csv", b'username,email\n"a,b\n', "line 2"),
        ("u.csv", b'username,email\n"a"x,b\n', "line 2"),
        ("u.csv", b"username\nok\n\xff\xfe\n", "line 3: it is not UTF-8"),
        ("u.csv", b"\n\xff", "line 2: it is not UTF-8"),
        ("u.csv", GOOD.encode("utf-16"), "not UTF-8"),
        ("u.json", b"{", "not JSON"),
        ("u.json", b"[" * 200_000, "deep"),
        ("u.json", b"[" + b"1" * 5000 + b"]", "4300"),
        ("u.json", b"[1]", "entry 1 is not a user"),
        ("u.json", b'"users"', "list of users"),
        ("u.json", b'{"data": null, "error": {}}', "list of users"),
        ("u.jsonl", b'{"username": "a"}\n[]\n', "line 2 is not a user"),
        ("u.jsonl", b'{"username": "a"}\n{\n', "line 2: it is not JSON"),
        ("-", b'{"username": "a"}\n\n{]\n', "line 3: it is not JSON"),
    ],
)
def test_unreadable_file_is_reported_with_position(name, raw, reason):
    message = str(catch_error(UsageError, lambda: read_lines(raw, name)))
    assert message.startswith(name)
    assert reason in message


@settings(max_examples=3 * settings.default.max_examples)
@given(raw=st.binary(max_size=200), name=st.sampled_from(["u.csv", "u.json", "u.jsonl", "-"]))
def test_any_bytes_are_users_or_usage_error(raw, name):
    with suppress(UsageError):
        assert isinstance(read_lines(raw, name), list)


def test_unknown_column_is_refused_first(path):
    message = assert_refused(path, "username;email;password\na;b;c\n", error=UsageError)
    assert "line 2: unknown column 'username;email;password'; known: username, email" in message
    assert_refused(path, '[{"username": "abc", "is_admin": true}]', "u.json", error=UsageError)


def test_invalid_lines_are_listed_up_to_limit(path):
    text = "username,email,password\n" + "".join(
        f"u{number},no address,123456\n" for number in range(100, 150)
    )
    message = assert_refused(path, text)
    assert "50 of 50" in message
    assert all(f"line {number}:" in message for number in range(2, 22))
    assert "line 22:" not in message
    assert "and 30 more" in message


def test_one_invalid_line_refuses_import_before_hashing(path):
    text = (
        "username,email,password\n"
        + "".join(f"user{n},user{n}@example.org,123456\n" for n in range(1000))
        + "x,y,z\n"
    )
    hashed = []
    with observe_progress(hashed.append):
        assert "1 of 1001" in assert_refused(path, text)
    assert hashed == []


def test_plan_hashes_nothing(path):
    with open_app(path) as app:
        progress = []
        lines = read_lines(b"username,email,password\nzoe,zoe@example.org,123456\n", "u.csv")
        prepared = import_export.import_users(app, lines, file="u.csv")
        with observe_progress(progress.append):
            assert prepared.plan().rows == {"users": 1}
        assert progress == []


def test_user_added_during_hashing_is_detected(path):
    lines = read_lines(
        b"username,email,password\nzoe,zoe@example.org,123456\nyan,yan@example.org,123456\n", "u.csv"
    )
    statement = "insert or ignore into users (username, email, password_hash, role_id) values ('ZOE', 'z@example.org', '', 2)"
    with open_app(path) as app, observe_progress(lambda _done: run_statements(path, statement)):
        prepared = import_export.import_users(app, lines, file="u.csv")
        assert "already has username" in str(catch_error(ImportInvalidError, prepared.apply))
    assert query_rows(path, "select count(*) from users") == [(4,)]


def test_user_deleted_during_hashing_is_not_added_without_password(path):
    lines = read_lines(
        b"username,email,password\nann,ann@example.org,123456\nyan,yan@example.org,123456\n", "u.csv"
    )
    statement = "delete from users where username = 'ann'"
    with open_app(path) as app, observe_progress(lambda _done: run_statements(path, statement)):
        prepared = import_export.import_users(app, lines, file="u.csv", existing=Existing.SKIP)
        catch_error(PlanChangedError, prepared.apply)
    assert query_rows(path, "select username from users order by id") == [("root",), ("bob",)]


def test_database_error_rolls_back_import(path):
    run_statements(
        path,
        "create trigger stop before insert on users when new.username = 'yan' begin select raise(abort, 'not yan'); end",
    )
    before = read_all_rows(path)
    assert "not yan" in str(catch_error(DbctlError, lambda: import_file(path, GOOD)))
    assert read_all_rows(path) == before


# Speed and signals ---------------------------------------------------------------------------------------------


def test_hashing_holds_no_lock(path):
    text = "username,email,password\n" + "".join(f"user{n},user{n}@example.org,123456\n" for n in range(20))
    statuses = []

    def write(hashed):  # as an app that does not wait for locks
        statuses.append(hashed)
        with closing(sqlite3.connect(path, timeout=0)) as app, app:
            app.execute("update roles set description = ? where id = 3", (str(len(statuses)),))

    with observe_progress(write):
        assert import_file(path, text).added == 20
    assert sum(statuses) == 20


@pytest.mark.slow
def test_import_time_is_linear(tmp_path):
    def calls(users):
        path = flashpoint_app.create_app(tmp_path / str(users), "deployed")
        text = "username,email,password_hash\n" + "".join(
            f"user{n},user{n}@example.org,{HASH}\n" for n in range(users)
        )
        return count_calls(lambda: import_file(path, text))

    calls(10)
    assert calls(2_000) < 4.5 * calls(500)


def test_signal_interrupts_hashing(path):
    text = "username,email,password\n" + "".join(f"user{n},user{n}@example.org,123456\n" for n in range(2000))
    before = read_all_rows(path)
    calls, hashes = [], []

    def advance(_done):
        calls.append(1)
        if len(calls) == 5:
            signals._received.append(signal.SIGTERM)

    def count_hash(frame, event, _argument):
        if event == "call" and frame.f_code.co_name == "add_hash":
            hashes.append(1)

    threading.setprofile(count_hash)
    try:
        with open_app(path) as app, observe_progress(advance):
            prepared = import_export.import_users(app, read_lines(text.encode(), "u.csv"), file="u.csv")
            catch_error(signals.Interrupted, prepared.apply)
    finally:
        signals._received.clear()
        threading.setprofile(None)
    assert len(calls) <= len(hashes) < 500
    assert [thread.name for thread in threading.enumerate() if "ThreadPool" in thread.name] == []
    assert read_all_rows(path) == before


def test_hashing_uses_available_cores(monkeypatch):
    assert import_export._core_count() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert import_export._core_count() == os.cpu_count()


def test_only_generated_passwords_are_shown_in_a_pipe(path):
    without = import_file(path, GOOD)
    assert (list(without.generated), without.lost_output) == ([], None)
    generated = import_file(path, "username,email\nxia,xia@example.org\n", generate=True)
    assert [item.login for item in generated.generated] == ["xia"]
    assert "users set-password LOGIN --generate" in generated.lost_output()


def test_users_that_a_trigger_ignores_are_not_reported_as_imported(path):
    run_statements(
        path,
        "create trigger ignored before insert on users when new.username = 'yan' begin select raise(ignore); end",
    )
    before = read_all_rows(path)
    catch_error(DbctlError, lambda: import_file(path, GOOD))
    assert read_all_rows(path) == before
