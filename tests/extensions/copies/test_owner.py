"""``copy --anonymise`` by an account that owns the app's database and has no other rights on the server."""

from __future__ import annotations

from contextlib import closing

import pymysql
import pytest
from msgspec import structs

from dbctl.engines.sql.catalog import ident
from dbctl.model import Secret
from tests import servers
from tests.databases import from_url
from tests.extensions.copies.club import configure

#: Foreign keys and triggers that would refuse the new values, each in another state.
GUARDS = """
alter table posts drop constraint posts_author_fkey, add constraint written_by foreign key (author) references members (login)
  on update restrict deferrable initially deferred not valid;
comment on constraint written_by on posts is 'the author''s login';
create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
create trigger guard before update on members for each row execute function refuse();
create trigger late after update on posts for each row execute function refuse();
alter table posts enable always trigger late;
create trigger off after update on posts for each row execute function refuse();
alter table posts disable trigger off;
"""
STATES = """select conname::text, pg_get_constraintdef(oid) from pg_constraint where contype = 'f'
union all select conname, obj_description(oid, 'pg_constraint') from pg_constraint where contype = 'f'
union all select tgname, tgenabled::text from pg_trigger where not tgisinternal order by 1, 2"""


@pytest.fixture
def postgresql_owner(club, destination, tmp_path):
    """A role that owns both databases and all their objects."""
    role = f"r_{club.own.path}"
    names = [club.own.path, destination.own.path]
    with closing(servers.connection(servers.postgresql())) as server:
        server.execute(f"create role {role} login")
        try:
            for name in names:
                server.execute(f"alter database {ident(name)} owner to {role}")
            club.run(*(f"alter table {ident(name)} owner to {role}" for name in club.tables()))
            owned = from_url(servers.text(structs.replace(club.own, user=role)))
            configure(tmp_path / "app", owned.url)
            yield owned
        finally:
            for name in names:
                server.execute(f"alter database {ident(name)} owner to postgres")
                with closing(servers.connection(structs.replace(club.own, path=name))) as connection:
                    connection.execute(f"reassign owned by {role} to postgres")
                    connection.execute(f"drop owned by {role}")
            server.execute(f"drop role {role}")


def read(database, sql):
    return [tuple(row) for row in database.rows(sql)]


def list_databases(club):
    """Return the databases of the server whose names begin with that of the app's."""
    column, table = {
        "postgresql": ("datname::text", "pg_database"),
        "mysql": ("schema_name", "information_schema.schemata"),
    }[club.engine]
    names = read(club, f"select {column} from {table}")
    return [name for (name,) in names if name.startswith(club.own.path)]


def copy(run, club, destination):
    """Copy the latest backup as the account of ``club``; return the result."""
    own = structs.replace(destination.own, user=club.own.user, password=club.own.password)
    return run("copy", "--to", servers.text(own), "--anonymise")


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_owner_with_createdb_copies_guarded_tables(club, destination, postgresql_owner, run):
    club.run(f"alter role {postgresql_owner.own.user} createdb")
    postgresql_owner.run(GUARDS)
    states = read(club, STATES)
    assert run("backup", "create")["ok"]
    result = copy(run, postgresql_owner, destination)
    assert result["ok"], result["error"]
    assert read(destination, STATES) == states
    assert read(destination, "select count(*) from posts p join members m on m.login = p.author") == [(20,)]
    assert read(destination, "select count(*) from members where login like 'quill%'") == [(0,)]
    assert list_databases(club) == [club.own.path]


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_owner_without_createdb_gets_the_remedy(club, destination, postgresql_owner, run, tmp_path):
    assert run("backup", "create")["ok"]
    before, files = club.content(), sorted((tmp_path / "app").rglob("*"))
    result = copy(run, postgresql_owner, destination)
    assert result["error"]["code"] == "privilege-missing"
    assert f"ALTER ROLE {ident(postgresql_owner.own.user)} CREATEDB;" in result["error"]["hint"]
    assert (destination.tables(), club.content()) == ([], before)
    assert sorted((tmp_path / "app").rglob("*")) == files
    assert list_databases(club) == [club.own.path]


@pytest.fixture
def mysql_owner(club, destination, tmp_path):
    """An account with all rights on both databases only."""
    name = f"u_{club.own.path}"[:32]
    url = structs.replace(club.own, user=name, password=Secret("pw"))
    with closing(servers.mysql_connection(servers.mysql())) as server, server.cursor() as cursor:
        cursor.execute(f"create user {name}@'%' identified by 'pw'")
        try:
            for database in (club, destination):
                pattern = database.own.path.replace("_", "\\_")
                cursor.execute(f"grant all on `{pattern}`.* to {name}@'%'")
            configure(tmp_path / "app", servers.text(url))
            yield from_url(servers.text(url))
        finally:
            cursor.execute(f"drop user {name}@'%'")


def grant_temporary(club, account):
    """Grant an account the temporary databases next to that of an app."""
    pattern = f"{club.own.path}_dbctl_".replace("_", "\\_")
    club.run(f"grant all on `{pattern}%`.* to {account.own.user}@'%'")


@pytest.mark.slow
@pytest.mark.parametrize("club", ["mysql"], indirect=True)
def test_account_with_temporary_databases_copies_guarded_tables(club, destination, mysql_owner, run):
    grant_temporary(club, mysql_owner)
    grant_temporary(destination, mysql_owner)
    mysql_owner.run(
        "create trigger guard before update on members for each row signal sqlstate '45000' set message_text = 'refused'"
    )
    assert run("backup", "create")["ok"]
    result = copy(run, mysql_owner, destination)
    assert result["ok"], result["error"]
    triggers = "select trigger_name, action_statement, definer from information_schema.triggers where trigger_schema = database()"
    assert read(destination, triggers) == read(club, triggers) != []
    assert read(destination, "select count(*) from posts p join members m on m.login = p.author") == [(20,)]
    assert read(destination, "select count(*) from members where login like 'quill%'") == [(0,)]
    with pytest.raises(pymysql.err.IntegrityError):
        destination.run("update posts set author = 'nobody'")
    assert list_databases(club) == [club.own.path]


@pytest.mark.parametrize("club", ["mysql"], indirect=True)
def test_account_without_temporary_databases_gets_the_remedy(club, destination, mysql_owner, run, tmp_path):
    assert run("backup", "create")["ok"]
    before, files = club.content(), sorted((tmp_path / "app").rglob("*"))
    result = copy(run, mysql_owner, destination)
    assert result["error"]["code"] == "privilege-missing"
    assert "GRANT ALL ON `" in result["error"]["hint"]
    assert (destination.tables(), club.content()) == ([], before)
    assert sorted((tmp_path / "app").rglob("*")) == files
    assert list_databases(club) == [club.own.path]
