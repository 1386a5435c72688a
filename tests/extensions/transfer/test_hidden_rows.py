"""Reads that would see only a part of a PostgreSQL database refuse."""

from __future__ import annotations

import psycopg
import pytest
from msgspec import structs

from tests import servers


@pytest.fixture
def limited():
    """Return the address of a role that a policy shows one of two rows, and a function that runs statements as its owner."""
    with servers.postgresql_database(encoding="UTF8") as url:
        role = f"{url.path}_limited"[-60:]
        with psycopg.connect(servers.text(url), autocommit=True) as connection:
            connection.execute(f'create role "{role}" login')
            connection.execute("create table note (id integer primary key, owner text)")
            connection.execute("insert into note values (1, 'a'), (2, 'b')")
            connection.execute("create policy own on note using (owner = 'a')")
            connection.execute("alter table note enable row level security")
            connection.execute(f'grant select on note to "{role}"')
            try:
                yield servers.text(structs.replace(url, user=role, password=None)), connection.execute
            finally:
                connection.execute(f'drop owned by "{role}"')
                connection.execute(f'drop role "{role}"')


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_export_refuses_rows_that_a_policy_hides(answer, limited, tmp_path, suffix):
    address, execute = limited
    file = tmp_path / f"note.{suffix}"
    error = answer("--url", f"main={address}", "data", "export", "note", str(file), status=6)["error"]
    assert "row-level security" in error["message"]
    assert not file.exists()
    execute("alter table note disable row level security")
    assert answer("--url", f"main={address}", "data", "export", "note", str(file))["data"]["rows"] == 2


def test_transfer_refuses_a_search_path_without_a_schema(answer, limited, tmp_path):
    address, execute = limited
    role = address.partition("//")[2].partition("@")[0]
    execute(f"alter role \"{role}\" set search_path = ''")
    words = ("--url", f"main={address}", "transfer", "plan", "--to", str(tmp_path / "new.db"))
    error = answer(*words, status=2)["error"]
    assert "search_path" in error["message"]
