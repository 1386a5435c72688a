"""Profiles are installed from files and from an HTTPS server, compared with a digest, and run nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import ssl
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dbctl.extensions.packages.safety import find_query_problem, find_table_problem, find_unsafe
from dbctl.files import toml
from dbctl.files.atomic import MAX_SETTINGS_BYTES
from dbctl.profiles.loader import BUILTIN
from tests.receivers import create_contexts

PROFILE = """\
schema = "dbctl.profile/1"
name = "shop"
title = "Shop"
[databases.main]
engines = ["sqlite"]
needs = ["people"]
[users]
table = "people"
id = { column = "id", codec = "given" }
login = ["username"]
admin = false
fields = { username = "login" }
[[report]]
name = "logins"
title = "Logins"
columns = ["login"]
[[report.variant]]
needs = ["people"]
sql = "select login from people order by login limit :limit offset :offset"
"""
NEWER = PROFILE.replace('title = "Shop"', 'title = "Shop 2"').replace("admin = false\n", "")


def compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Return the folder of installed profiles of a user, in a working directory with a profile and a database."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.toml").write_text(PROFILE)
    with closing(sqlite3.connect("shop.db")) as db:
        db.executescript(
            "create table people (id integer primary key, login text); insert into people values (1, 'ann')"
        )
    return tmp_path / "config/dbctl/profiles"


class Handler(BaseHTTPRequestHandler):
    """Serves a profile, and answers that are none."""

    def do_GET(self):
        text, status, headers = PROFILE.encode(), 200, {}
        if self.path == "/moved.toml":
            status, headers = 302, {"Location": "/shop.toml"}
        elif self.path == "/missing.toml":
            status = 404
        elif self.path == "/large.toml":
            text = b"#" * (MAX_SETTINGS_BYTES + 1)
        self.send_response(status)
        length = len(text) + 100 if self.path == "/interrupted.toml" else len(text)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words):
        """Print nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Yield the address of an HTTPS server whose authority is trusted."""
    context, authority = create_contexts(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        assert isinstance(context, ssl.SSLContext)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def list_shop(answer):
    return [item for item in answer("profiles", "list")["data"]["items"] if item["name"] == "shop"]


def test_installed_profile_is_found_by_name_until_it_is_uninstalled(answer, shop):
    plan = answer("profiles", "install", "shop.toml", "--dry-run")["data"]["plan"]
    assert len(plan["steps"]) == 1
    assert not shop.exists()
    data = answer("profiles", "install", "shop.toml", "--sha256", compute_digest(PROFILE))["data"]
    assert (data["file"], data["sha256"]) == (str(shop / "shop.toml"), compute_digest(PROFILE))
    assert answer("users", "list", "--profile", "shop", "--url", "main=shop.db")["data"]["total"] == 1
    (listed,) = list_shop(answer)
    expected = ("user", str(shop.parents[2] / "shop.toml"), compute_digest(PROFILE), "")
    assert (listed["origin"], listed["source"], listed["sha256"], listed["problem"]) == expected
    assert answer("profiles", "install", "shop.toml")["data"]["verb"] == ""
    answer("profiles", "uninstall", "shop", "--yes")
    assert list(shop.iterdir()) == []
    assert (
        answer("profiles", "uninstall", "shop", "--yes", status=5)["error"]["code"] == "profile-not-installed"
    )


def test_changes_of_profiles_are_in_the_journal(answer, shop, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    answer("profiles", "install", "shop.toml", "--dry-run")
    answer("profiles", "install", "shop.toml")
    (tmp_path / "shop.toml").write_text(NEWER)
    answer("profiles", "update", "shop", "--yes")
    answer("profiles", "uninstall", "shop", "--yes")
    runs = answer("runs", "list")["data"]["items"]
    assert [(run["command"], run["error"]) for run in reversed(runs)] == [
        ("profiles install", None),
        ("profiles update", None),
        ("profiles uninstall", None),
    ]


def test_profile_of_a_configured_app_is_not_uninstalled(answer, shop):
    answer("profiles", "install", "shop.toml")
    (shop.parents[2] / "dbctl.toml").write_text(
        '[apps.store]\nprofile = "shop"\n[apps.store.databases]\nmain = "shop.db"\n'
    )
    error = answer("profiles", "uninstall", "shop", "--yes", status=6)["error"]
    assert (error["code"], "store" in error["message"]) == ("profile-in-use", True)
    assert (shop / "shop.toml").exists()


def test_address_requires_https_and_the_published_digest(answer, shop, server):
    url, digest = f"{server}/shop.toml", compute_digest(PROFILE)
    assert answer("profiles", "install", url, status=2)["error"]["code"] == "profile-source"
    plain = url.replace("https:", "http:")
    assert (
        answer("profiles", "install", plain, "--sha256", digest, status=2)["error"]["code"]
        == "profile-source"
    )
    login = url.replace("https://", "https://ann:secret@")
    error = answer("profiles", "install", login, "--sha256", digest, status=2)["error"]
    assert (error["code"], "secret" in json.dumps(error)) == ("profile-source", False)
    error = answer("profiles", "install", url, "--sha256", compute_digest("other"), status=4)["error"]
    assert (error["code"], digest in error["message"]) == ("profile-digest", True)
    assert not shop.exists()
    answer("profiles", "install", url, "--sha256", f"sha256:{digest.upper()}")
    assert (shop / "shop.toml").read_text() == PROFILE
    assert list_shop(answer)[0]["source"] == url


@pytest.mark.parametrize(
    ("path", "code", "status"),
    [
        ("moved.toml", "profile-unreachable", 10),
        ("missing.toml", "profile-unreachable", 10),
        ("interrupted.toml", "profile-unreachable", 10),
        ("large.toml", "profile-source", 2),
    ],
)
def test_other_answers_install_nothing(answer, shop, server, path, code, status):
    words = ["profiles", "install", f"{server}/{path}", "--sha256", compute_digest(PROFILE)]
    error = answer(*words, status=status)["error"]
    assert error["code"] == code
    assert ("shop.toml" in error["message"]) == (path == "moved.toml")
    assert not shop.exists()


def test_untrusted_certificate_and_closed_port_install_nothing(answer, shop, server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    words = ["--sha256", compute_digest(PROFILE)]
    assert (
        "not trusted"
        in answer("profiles", "install", f"{server}/shop.toml", *words, status=10)["error"]["message"]
    )
    assert (
        answer("profiles", "install", "https://127.0.0.1:1/shop.toml", *words, status=10)["error"]["code"]
        == "profile-unreachable"
    )
    assert not shop.exists()


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"", "profile-invalid", 2),
        (b"\xff\xfe", "profile-source", 2),
        (b"name = [", "profile-invalid", 2),
        (PROFILE.replace('table = "people"', 'tabel = "people"').encode(), "profile-invalid", 2),
        (PROFILE.replace('name = "shop"', 'name = "../shop"').encode(), "profile-source", 2),
        (
            PROFILE.replace("select login from people", "select load_extension('x')").encode(),
            "profile-unsafe",
            6,
        ),
        (PROFILE.replace('name = "shop"', 'name = "django"').encode(), "profile-name-taken", 6),
        (b"#" * (MAX_SETTINGS_BYTES + 1), "profile-source", 2),
    ],
)
def test_broken_file_is_refused(answer, shop, content, code, status):
    (shop.parents[2] / "broken.toml").write_bytes(content)
    assert answer("profiles", "install", "broken.toml", status=status)["error"]["code"] == code
    assert not shop.exists()
    assert answer("profiles", "install", "absent.toml", status=None)["error"]["code"] == "file-missing"


def test_update_shows_differing_keys_and_asks(answer, shop):
    answer("profiles", "install", "shop.toml")
    words = ["profiles", "update", "shop"]
    assert answer(*words, "--yes")["data"]["verb"] == ""
    (shop.parents[2] / "shop.toml").write_text(NEWER)
    difference = answer(*words, "--diff")["data"]
    assert [(item["key"], item["installed"], item["new"]) for item in difference["differences"]] == [
        ("title", '"Shop"', '"Shop 2"'),
        ("users.admin", "false", None),
    ]
    assert (difference["installed"], difference["new"]) == (compute_digest(PROFILE), compute_digest(NEWER))
    assert answer(*words, status=6)["error"]["code"] == "confirmation-missing"
    assert (shop / "shop.toml").read_text() == PROFILE
    assert (
        answer(*words, "--yes", "--sha256", compute_digest(PROFILE), status=4)["error"]["code"]
        == "profile-digest"
    )
    assert answer(*words, "--yes")["data"]["verb"] == "updated"
    assert list_shop(answer)[0]["sha256"] == compute_digest(NEWER)
    (shop / "shop.toml").write_text(NEWER + "# mine\n")
    assert list_shop(answer)[0]["problem"]
    plan = answer(*words, "--dry-run")["data"]["plan"]
    assert any("since its installation" in step for step in plan["steps"])
    (shop.parents[2] / "other.toml").write_text(PROFILE.replace('"shop"', '"store"', 1))
    assert answer(*words, "other.toml", "--yes", status=6)["error"]["code"] == "profile-name-taken"


def test_name_of_another_profile_is_not_shadowed_silently(answer, shop):
    system = shop.parents[2] / "etc/dbctl/profiles"
    system.mkdir(parents=True)
    (system / "shop.toml").write_text(NEWER)
    assert answer("profiles", "install", "shop.toml", status=6)["error"]["code"] == "profile-name-taken"
    answer("profiles", "install", "shop.toml", "--shadow")
    assert [item["origin"] for item in list_shop(answer)] == ["user", "system"]
    (shop.parents[2] / "shop.toml").write_text(NEWER)
    error = answer("profiles", "install", "shop.toml", "--shadow", status=6)["error"]
    assert (error["code"], "profiles update shop --diff" in error["hint"]) == ("profile-name-taken", True)


def test_folder_without_permission_is_reported(answer, shop):
    shop.parent.mkdir(parents=True)
    shop.write_text("no folder")
    assert answer("profiles", "install", "shop.toml", status=None)["error"]["code"] == "file-failed"
    assert shop.read_text() == "no folder"


@pytest.mark.parametrize(
    "sql",
    [
        "delete from people",
        "select 1; drop table people",
        "with gone as (delete from people returning *) select * from gone",
        "select login into outfile '/tmp/x' from people",
        "copy people to program 'id'",
        "select pg_read_file('/etc/passwd')",
        "select \"pg_read_file\"('/etc/passwd')",
        "select pg_catalog.lower(login) from people",
        "select 1 /*! into outfile '/tmp/x' */",
        "select 'a\\' into outfile \"/tmp/x\" -- '",
        "select $$a$$",
        "select login from people for update",
        "pragma writable_schema = on",
        "attach 'x.db' as x",
        "values (1)",
        "select 'open",
        "select [load_extension]('x')",
        "select [x'], load_extension('y') as [z'] from people",
        "select load_extension[1]('x')",
        "select a[load_extension('x')] from people",
        "select tags[1]into people_copy from people",
        "select 1 from people where id = ids[1]for share",
        "select next value for people_id",
    ],
)
def test_query_that_does_more_than_read_is_found(sql):
    assert find_query_problem(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select tags[1], (string_to_array)[2] from people",
        'select "tags" [1][2] from people where tags[1:2] is not null',
    ],
)
def test_subscript_of_an_array_only_reads(sql):
    assert find_query_problem(sql) == ""


def test_queries_of_built_in_profiles_only_read():
    """Except for what corrects published migrations, and a ledger with an index."""
    unsafe = {
        (path.stem, key[-1])
        for path in sorted(BUILTIN.glob("*.toml"))
        for key, _ in find_unsafe(toml.loads(path.read_text()))
    }
    assert unsafe == {("flashpoint-web", "earlier"), ("flashpoint-web", "create")}


def test_other_keys_with_statements_are_found():
    assert find_table_problem("create table t as select 1")
    assert find_table_problem("create table t (a int); drop table x")
    assert find_table_problem("create table if not exists t (a int default 1)") == ""
    for create in (
        "drop table x",
        {"sqlite": "create table l (a int)", "mysql": "create table l (a int); drop table x"},
    ):
        ledger = {"databases": {"main": {"migrations": {"ledger": {"create": create}}}}}
        assert [key[-1] for key, _ in find_unsafe(ledger)] == ["create"]
        assert [key for key, _ in find_unsafe({"ledgers": {"own": {"create": create}}})] == [
            ("ledgers", "own", "create")
        ]
    pragmas = {"journal_mode": "wal", "temp_store_directory": "elsewhere", "cache_size": "1; attach 'x'"}
    section = {"pragmas": pragmas, "migrations": {"earlier": {"ab": "drop table x"}}}
    assert [key[-1] for key, _ in find_unsafe({"databases": {"main": section}})] == [
        "earlier",
        "temp_store_directory",
        "cache_size",
    ]
