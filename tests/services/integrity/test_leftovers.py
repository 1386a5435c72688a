"""What a dbctl that was killed left on a server: told by ``doctor``, with what removes it; never what a living one works in."""

from __future__ import annotations

from contextlib import closing, contextmanager

import pytest

from dbctl.config import Selection
from dbctl.engines import registry
from dbctl.engines.sql.query_builder import ident
from dbctl.services.backup import reader
from dbctl.services.doctor import examine
from tests import servers
from tests.services import larder_app, promptvault_app


@pytest.fixture(params=["postgresql", "mysql"])
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


def run(pantry, statement):
    if pantry.engine == "postgresql":
        with closing(servers.connection(servers.postgresql())) as central:
            central.execute(statement.rstrip(";"))
    else:
        with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
            cursor.execute(statement)


def quoted(pantry, name):
    return ident(name) if pantry.engine == "postgresql" else f"`{name}`"


def told(pantry):
    said = Selection(config=str(pantry.path.with_name("dbctl.toml")))
    found = examine.examine([said], timeout=5).findings.findings
    return [one for one in found if one.code == "left-behind"]


@contextmanager
def tried(pantry):
    """A trial restore that is going on."""
    made = promptvault_app.create(pantry.path)
    (one,) = made.members
    with promptvault_app.opened(pantry.path) as (app, repository):
        manifest = repository.find(made.id)
        with (
            reader.unpacking(repository.store, promptvault_app.keys_of(app)) as unpacked,
            unpacked.opened(manifest, one, "larder/pantry") as path,
            registry.tried(one.engine, pantry.own, path, one.dump, "larder/pantry", timeout=5) as on,
        ):
            yield on.url.path


def test_doctor_tells_what_was_left_and_its_own_words_remove_it(pantry):
    assert told(pantry) == []
    older, left = (f"{pantry.own.path}_dbctl_new_{number}" for number in ("0badcafe", "1badcafe"))
    others = [f"{pantry.own.path}_dbctl_new_of_mine", f"x{left}"]
    try:
        for name in (older, *others):
            run(pantry, f"create database {quoted(pantry, name)}")
        with tried(pantry) as living:
            # Which has removed what was there when it began.
            assert living.startswith(f"{pantry.own.path}_dbctl_new_")
            assert older not in pantry.databases()
            run(pantry, f"create database {quoted(pantry, left)}")
            (one,) = told(pantry)
            assert left in one.message
            assert (one.severity, one.target) == ("warning", "larder/pantry")
        run(pantry, one.hint.partition("or: ")[2])
        assert told(pantry) == []
        assert left not in pantry.databases()
    finally:
        for name in (older, left, *others):
            run(pantry, f"drop database if exists {quoted(pantry, name)}")


def test_doctor_looks_also_where_the_configuration_sends_trial_restores(pantry):
    with larder_app.settled(pantry.engine, pantry.folder / "scratch") as scratch:
        file = pantry.path.with_name("dbctl.toml")
        file.write_text(f'{file.read_text()}scratch = "{scratch.url}"\n')
        left = f"{scratch.own.path}_dbctl_new_0badcafe"
        run(pantry, f"create database {quoted(pantry, left)}")
        try:
            (one,) = told(pantry)
            assert left in one.message
        finally:
            run(pantry, f"drop database {quoted(pantry, left)}")
        assert told(pantry) == []
