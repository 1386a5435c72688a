"""Database URLs."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl import url as urls
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import RouteInvalidError, UrlInvalidError
from dbctl.url import parse_url

MARKED = "hunter2-marked"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("user.db", "user.db"),
        ("/var/app/user.db", "/var/app/user.db"),
        ("~/user.db", "~/user.db"),
        ("sqlite:user.db", "user.db"),
        ("sqlite:///var/user.db", "/var/user.db"),
        ("sqlite:////var/user.db", "/var/user.db"),
        ("sqlite://user.db", "user.db"),
        ("file:///var/my%20app.db", "/var/my app.db"),
        ("with space?.db", "with space?.db"),
        ("100%25.db", "100%25.db"),
        ("./odd:name.db", "./odd:name.db"),
        ("/srv/odd:name.db", "/srv/odd:name.db"),
        (":memory:x", ":memory:x"),
    ],
)
def test_file_is_identified_by_path_or_url(text, path):
    assert (parse_url(text).engine, parse_url(text).path) == ("sqlite", path)


@pytest.mark.parametrize(
    "text",
    ["rclone:x:y", "user@nas:backups", "nas.example:/srv", "sftp:x", "rsync:db", "odd:name.db", "s4:b"],
)
def test_address_of_another_program_is_no_path(text):
    with pytest.raises(UrlInvalidError, match=r"unknown scheme.*write \./"):
        parse_url(text)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "POSTGRES", "postgresql+psycopg"])
def test_server_url_is_parsed(scheme):
    url = parse_url(f"{scheme}://ann:p%40ss%2Fword@db.example:5433/my%20app?sslmode=require")
    assert (url.engine, url.host, url.port, url.user, url.path) == (
        "postgresql",
        "db.example",
        5433,
        "ann",
        "my app",
    )
    assert (url.password.reveal(), url.options) == ("p@ss/word", "sslmode=require")


def test_at_sign_in_password_needs_no_escaping():
    url = parse_url("mysql://u:p@ss@h/d")
    assert (url.password.reveal(), url.host) == ("p@ss", "h")


def test_host_may_be_a_socket_path_which_round_trips():
    for login in ("", "@", "ann@"):
        url = parse_url(f"postgresql://{login}%2Fvar%2Frun%2Fpostgresql:5433/app?schema=s")
        assert (url.host, url.port, url.path) == ("/var/run/postgresql", 5433, "app")
        assert parse_url(str(url)).host == url.host
    assert str(parse_url("mysql://u@%2Frun%2Fmy%25d%40x.sock/d")) == "mysql://u@%2Frun%2Fmy%25d%40x.sock/d"


def test_host_may_be_an_ipv6_address():
    assert (parse_url("postgresql://[::1]:5432/d").host, parse_url("postgresql://[::1]/d").port) == (
        "[::1]",
        None,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "a\0b",
        "sqlite://",
        "sqlite:///",
        "sqlite:",
        "sqlite:///x%00y",
        "sqlite:///x?mode=ro",
        f"oracle://u:{MARKED}@h/d",
        f"postgresql://u:{MARKED}/x@h/d",
        f"postgresql://u:{MARKED}#x@h/d",
        f"postgresql://u:{MARKED}?x@h/d",
        f"postgres:u:{MARKED}@h/d",
        f"mysql://u:{MARKED}@h:0/d",
        f"mysql://u:{MARKED}@h:99999/d",
        f"mysql://u:{MARKED}@h:port/d",
        f"mysql://u:{MARKED}@h:٣/d",
    ],
)
def test_invalid_url_is_refused_without_showing_its_password(text):
    with pytest.raises(UrlInvalidError) as caught:
        parse_url(text)
    assert MARKED not in str(caught.value) + caught.value.hint


@given(TEXT, TEXT, TEXT)
def test_password_round_trips_and_is_never_shown(user, password, name):
    marked = password + MARKED
    url = parse_url(
        f"postgresql://{quote(user, safe='')}:{quote(marked, safe='')}@h:1/{quote(name, safe='')}"
    )
    assert (url.user, url.password.reveal(), url.path) == (user, marked, name)
    assert MARKED not in f"{url} {url!r} {url.password!r}"
    with pytest.raises(TypeError):
        msgspec.json.encode(url)


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    try:
        assert str(parse_url(text)) or parse_url(text).engine in set(dict(urls.list_engines()))
    except DbctlError as error:
        assert error.exit_status == 2  # noqa: PT017 - both results are valid


@given(
    st.text(st.characters(exclude_characters="\0"), min_size=1).filter(
        lambda text: text.strip() and ":" not in text
    )
)
def test_plain_path_is_unchanged(path):
    assert parse_url(path).path == path


def test_url_of_lancedb_in_storage_may_include_the_engine():
    assert parse_url("lancedb+s3://bucket/app/lancedb") == parse_url("s3://bucket/app/lancedb")
    assert not parse_url("lancedb+s3://bucket/app").is_folder


@pytest.mark.parametrize(
    "address",
    ["postgresql+ftp://u@h/d", "mysql+http://u@h/d", "docker://db/x", "sqlite+http://x", "lancedb+az://b"],
)
def test_unknown_scheme_or_driver_is_refused(address):
    with pytest.raises(UrlInvalidError, match="known: sqlite, postgresql"):
        parse_url(address)


@pytest.mark.parametrize(
    "address", ["postgresql+psycopg://u@h/d", "mysql+pymysql://u@h/d", "lancedb+s3://b/p"]
)
def test_driver_of_another_library_is_ignored(address):
    assert parse_url(address).engine == address.partition("+")[0]


@pytest.mark.parametrize(
    ("text", "host", "via", "shown"),
    [
        ("postgresql+ssh://ann@bastion:5433/shop", "127.0.0.1", "ssh:bastion", "postgresql://ann@127.0.0.1:5433/shop?via=ssh:bastion"),
        ("mysql+docker://ann@shop-db/shop", "127.0.0.1", "docker:shop-db", "mysql://ann@127.0.0.1/shop?via=docker:shop-db"),
        ("mysql://db/shop?via=ssh:me%40b+docker:x&ssl=0", "db", "ssh:me@b docker:x", "mysql://db/shop?via=ssh:me%40b+docker:x"),
        ("mysql://[::1]:3306/a?via=ssh:me%40[::1]:22+ssh:[fe80::1%25lo]", "[::1]", "ssh:me@[::1]:22 ssh:[fe80::1%lo]", "mysql://[::1]:3306/a?via=ssh:me%40[::1]:22+ssh:[fe80::1%25lo]"),
        ("mysql://db/a?via=ssh:me%2Btoo%40b", "db", "ssh:me+too@b", "mysql://db/a?via=ssh:me%2Btoo%40b"),
        ("sqlite:/data/a.db?via=docker:app", "", "docker:app", "sqlite:/data/a.db?via=docker:app"),
        ("postgresql://db/a?via=kubernetes:shop/app=db/pg", "db", "kubernetes:shop/app=db/pg", "postgresql://db/a?via=kubernetes:shop/app=db/pg"),
    ],
)  # fmt: skip
def test_route(text, host, via, shown):
    url = parse_url(text)
    assert (url.host, url.via, url.is_local, str(url)) == (host, via, False, shown)
    assert parse_url(shown).via == via


def test_unencoded_sign_of_a_route_is_named():
    with pytest.raises(UrlInvalidError, match="via contains @"):
        parse_url("postgresql://ann:pw@db/shop?via=ssh:me@bastion")


@pytest.mark.parametrize("text", ["docker:shop-db", "ssh:bastion docker:shop-db"])
def test_route_without_a_database_is_no_address(text):
    with pytest.raises(RouteInvalidError, match="names no database"):
        parse_url(text)


@pytest.mark.parametrize(
    "route", ["ftp:a", "ssh", "ssh:", "ssh:-oProxyCommand=x", "docker:a/b", "kubernetes:pod", "docker:a+ssh:b", "ssh:a%00", "ssh:me%40-oProxyCommand=x", "ssh:a:0", "ssh:a:65536", "ssh:::1", "ssh:2001:db8::1", "ssh:a%0Assh", f"docker:{'a' * 513}"]
)  # fmt: skip
def test_invalid_route(route):
    with pytest.raises(UrlInvalidError):
        parse_url(f"postgresql://db/shop?via={route}")


@pytest.mark.parametrize("name", ["a@b", "a/b", "a:b", "a#b", "a?b", "a%41", "a b", "ä'"])
def test_text_for_commands_leads_to_the_same_database(name):
    encoded = quote(name, safe="")
    url = parse_url(f"postgresql://{encoded}@127.0.0.1:5433/{encoded}?schema=x")
    assert (url.user, url.path) == (name, name)
    assert parse_url(url.command_text) == url
