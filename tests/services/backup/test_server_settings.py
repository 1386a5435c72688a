"""Backups of servers that are restored on a server with other settings."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from msgspec import structs

from dbctl.url import parse_url
from tests import servers

pytestmark = pytest.mark.slow

#: A locale in which 1234.5 is ``1.234,50 EUR``.
EURO = """LC_MONETARY
int_curr_symbol "EUR "
currency_symbol "EUR"
mon_decimal_point ","
mon_thousands_sep "."
mon_grouping 3;3
positive_sign ""
negative_sign "-"
int_frac_digits 2
frac_digits 2
p_cs_precedes 0
p_sep_by_space 1
n_cs_precedes 0
n_sep_by_space 1
p_sign_posn 1
n_sign_posn 1
END LC_MONETARY
"""
CHARMAP = "\n".join(
    [
        "<code_set_name> ASCII",
        "<comment_char> %",
        "<escape_char> /",
        "CHARMAP",
        *(f"<U{code:04X}> /x{code:02x} C{code}" for code in range(128)),
        "END CHARMAP\n",
    ]
)


@pytest.fixture
def locale(monkeypatch):
    """Create a locale with these amounts and German messages for servers of this test that start from now on; yield its name."""
    if not (localedef := shutil.which("localedef")):
        pytest.skip("no localedef")
    with tempfile.TemporaryDirectory(
        prefix="dbctl-locale-"
    ) as name:  # in tmp_path the user of the server reads nothing
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "source").write_text(EURO)
        (folder / "charmap").write_text(CHARMAP)
        command = [localedef, "-c", "-f", folder / "charmap", "-i", folder / "source", folder / "de_DE"]
        subprocess.run(command, check=False, capture_output=True)  # it warns of the absent categories
        monkeypatch.delenv("LANGUAGE", raising=False)
        monkeypatch.setenv("LOCPATH", name)
        yield "de_DE"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def configure(folder, url):
    (folder / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(url)}"\nbackup.repository = "backups"\n'
    )


def execute(url, *statements):
    with closing(servers.connection(url)) as own:
        return [cursor.fetchall() for sql in statements if (cursor := own.execute(sql)).description][-1:]


def test_money_is_restored_on_a_server_with_another_locale(tmp_path, monkeypatch, answer, locale):
    cents = "select id, (price::numeric * 100)::int8 from sales order by id"

    with servers.own_postgresql(f"lc_monetary={locale}") as first:
        url = parse_url(first.url)
        execute(
            url,
            "create table sales (id int primary key, price money default 2.5::numeric::money)",
            "insert into sales values (1, 1234.5::numeric::money), (2, (-0.99)::numeric::money), (3, null)",
        )
        assert execute(url, "select price::text from sales where id = 1") == [[("1.234,50 EUR",)]]
        expected = execute(url, cents)
        configure(tmp_path, url)
        answer("backup", "create")
        answer("restore", "apply", "latest", "--yes")
        assert execute(url, cents) == expected
    monkeypatch.delenv("LOCPATH")
    with servers.own_postgresql() as second:
        url = parse_url(second.url)
        configure(tmp_path, url)
        answer("restore", "apply", "latest", "--yes")
        assert execute(url, cents) == expected
        execute(url, "insert into sales (id) values (4)")
        assert execute(url, "select price::numeric from sales where id = 4")[0][0][0] == 2.5


def test_reason_of_a_failed_dump_is_known_in_each_language(tmp_path, answer, locale):
    with servers.own_postgresql(f"lc_messages={locale}") as server:
        url = parse_url(server.url)
        execute(url, "create role app login", "create table sales (id int)", "grant select on sales to app")
        try:
            execute(url, "select 1 / 0")
        except psycopg.errors.DivisionByZero as error:
            if str(error).startswith("division by zero"):
                pytest.skip("no translations of the server")
        configure(tmp_path, structs.replace(url, user="app"))
        with closing(servers.connection(url)) as other:
            other.execute("begin; lock table sales in access exclusive mode")
            error = answer("backup", "create", "--timeout", "0.3", status=11)["error"]
            assert error["code"] == "busy"
            assert str(other.info.backend_pid) in error["message"]
        execute(url, "revoke select on sales from app")
        assert answer("backup", "create", status=6)["error"]["code"] == "privilege-missing"
        execute(url, "grant select on sales to app")
        answer("backup", "create")


def test_timestamp_is_restored_without_the_default_that_a_server_gives(tmp_path, answer):
    """Without explicit_defaults_for_timestamp, each update of a row would replace the time in its first TIMESTAMP."""
    other = servers.private_mysql("--explicit-defaults-for-timestamp=OFF")
    with servers.mysql_database() as url, servers.mysql_database(server=other) as second:
        with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
            cursor.execute("set session explicit_defaults_for_timestamp = 1")
            cursor.execute("create table t (id int primary key, n int, at timestamp not null)")
            cursor.execute("insert into t values (1, 0, '2021-01-02 03:04:05')")
            cursor.execute("select unix_timestamp(at) from t")
            expected = cursor.fetchall()
        configure(tmp_path, url)
        answer("backup", "create")
        configure(tmp_path, second)
        answer("restore", "apply", "latest", "--yes")
        result = answer("backup", "drill")
        assert result["data"]["databases"][0]["passed"]
        assert not result["warnings"]
        with closing(servers.mysql_connection(second)) as own, own.cursor() as cursor:
            cursor.execute("update t set n = 1")
            cursor.execute("select unix_timestamp(at) from t")
            assert cursor.fetchall() == expected


def test_restore_names_the_setting_of_a_server_that_folds_names_of_tables(tmp_path, answer):
    other = servers.private_mysql("--lower-case-table-names=1")
    with servers.mysql_database() as url, servers.mysql_database(server=other) as second:
        with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
            cursor.execute('create table "Orders" (id int primary key)')
        configure(tmp_path, url)
        answer("backup", "create")
        configure(tmp_path, second)
        for words in (["restore", "apply", "latest", "--yes"], ["restore", "apply", "latest", "--dry-run"]):
            assert "lower_case_table_names" in answer(*words, status=1)["error"]["message"]


def test_login_with_the_role_of_the_owner_restores_in_place(tmp_path, answer):
    """The sessions that the restore ends, also its own one, belong to the login, and the database to its role."""
    with servers.own_postgresql() as server:
        url = parse_url(server.url)
        execute(
            url,
            "create role seller createdb",
            "create role clerk login noinherit in role seller",
            "alter role clerk set role = seller",
            "create database shop owner seller",
        )
        shop = structs.replace(url, path="shop", user="clerk")
        execute(shop, "create table sales (id int)")
        configure(tmp_path, shop)
        answer("backup", "create")
        execute(shop, "insert into sales values (1)")
        with closing(servers.connection(shop)):
            answer("restore", "apply", "latest", "--yes")
        assert execute(shop, "select count(*) from sales") == [[(0,)]]
