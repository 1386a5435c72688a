"""Rows of a PostgreSQL table whose policies hide some from the role of dbctl: import, addition, deletion, undo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.cli.main import main
from tests import servers

TABLE = """create table notes (id integer primary key, owner text not null, title text);
insert into notes values (1, 'own', 'first'), (2, 'other', 'second');
create function shout() returns trigger language plpgsql as $$ begin new.title = upper(new.title); return new; end $$;
create trigger shout before insert on notes for each row execute function shout();
create policy visible on notes using (owner = 'own') with check (true);
create policy added on notes for insert with check (true);
alter table notes enable row level security"""


@pytest.fixture
def databases() -> Iterator[tuple[str, str]]:
    """Yield the addresses of a database for a role with policies, and for its owner."""
    with servers.postgresql_database(encoding="UTF8") as server:
        role = f"{server.path}_limited"[-60:]
        with closing(servers.connection(server)) as connection:
            connection.execute(f'create role "{role}" login; {TABLE}; grant all on notes to "{role}"')
            try:
                yield servers.text(structs.replace(server, user=role, password=None)), servers.text(server)
            finally:
                connection.execute(f'drop owned by "{role}"; drop role "{role}"')


def read(url: str) -> list[tuple[object, ...]]:
    from dbctl.url import parse_url

    with closing(servers.connection(parse_url(url))) as connection:
        return connection.execute("select * from notes order by id").fetchall()


def test_rows_are_imported_and_restored_within_policies(
    databases: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    limited, owner = databases
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    options = ["--profile", "plain", "--url", f"main={limited}"]
    Path("rows.csv").write_text("id,owner,title\n3,own,third\n4,other,fourth\n")
    assert main([*options, "data", "import", "notes", "rows.csv", "--yes"]) == 0
    assert main([*options, "data", "add", "notes", "id=5", "owner=other", "title=fifth"]) == 0
    stored = read(owner)
    assert [row[0] for row in stored] == [1, 2, 3, 4, 5]
    assert main([*options, "data", "delete", "notes", "--filter", "owner=own", "--yes"]) == 0
    assert [row[0] for row in read(owner)] == [2, 4, 5]
    capsys.readouterr()
    assert main([*options, "audit", "list", "-o", "json"]) == 0
    number = json.loads(capsys.readouterr().out)["data"]["items"][0]["operation"]
    assert main([*options, "undo", str(number), "--yes"]) == 0
    assert [row[:2] for row in read(owner)] == [row[:2] for row in stored]
