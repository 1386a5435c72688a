"""Commands through routes while dbctl, ssh, a container or its relay is killed: old or new state, true errors, and nothing remains."""

from __future__ import annotations

import re
import signal

import pytest

from tests.crash.figures import TORTURE, choose_count, create_rng
from tests.crash.forge import KillTimer, wait_for_result
from tests.extensions.reach import victims
from tests.extensions.reach.processes import find_ssh, wait_until, wait_until_empty
from tests.services import larder_app, promptvault_app

pytestmark = pytest.mark.slow
ENGINES = "postgresql", "mysql"
BEHIND_SSH, IN_CONTAINER = (
    {"dbctl": victims.Dbctl, "ssh": victims.Ssh},
    {"container": victims.Served, "relay": victims.Relay},
)
VICTIMS = [f"{victim} {engine}" for victim in (*BEHIND_SSH, *IN_CONTAINER) for engine in ENGINES]
KILLS = choose_count(1, 30)
CHANGE = "data", "set", "much", "1", "text=new", "--yes"
MIGRATIONS = 3  #: of one run


@pytest.fixture
def victim(request, tmp_path, runtime):
    """Provide Larder behind a route, and what is killed."""
    name, engine = request.param.split()
    if name in BEHIND_SSH:
        hosts = request.getfixturevalue("ssh_hosts")
        with larder_app.open_pantry(engine, tmp_path / "app") as pantry:
            fill(pantry, "ssh:bastion")
            yield BEHIND_SSH[name](pantry, runtime, {"PATH": hosts.path})
        return
    podman = request.getfixturevalue("podman")
    # Another test selects the only service db.
    create = podman.postgresql if engine == "postgresql" else podman.mariadb
    container = create(bridge=True, service="larder")
    pantry = victims.open_container_pantry(container, tmp_path / "app")
    fill(pantry, f"docker:{container.name}", host="127.0.0.1")
    yield IN_CONTAINER[name](pantry, runtime, podman.environment, container)


def fill(pantry, via, **options):
    pantry.run("create table much (id int primary key, text varchar(200))")
    rows = ", ".join(f"({number}, '{number:0200}')" for number in range(20_000))
    pantry.run(f"insert into much values {rows}")
    victims.configure(pantry, via, **options)


def kill(*sample):
    """Let a test kill every victim on every engine for ``make torture``, otherwise those of a sample."""
    return pytest.mark.parametrize("victim", VICTIMS if TORTURE else sample, indirect=True)


def require_truth(result, is_new):
    """Assert that a command does not deny the state that it left; nothing is known from one that was killed."""
    status, output = result
    if status == 0:
        assert is_new, output
    elif is_new and status > 0:
        assert output["error"]["code"] in victims.IN_DOUBT, output["error"]


@kill("dbctl postgresql", "container mysql")
def test_killed_backup_leaves_complete_backups(victim, request):
    pantry = victim.pantry
    victim.run_to_end("backup", "create")
    content, timer = pantry.content(), KillTimer(create_rng(request.node.name), 1.5)
    for _ in range(KILLS):
        victim.run_killed(timer, "backup", "create")
        findings = promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, deep=False))
        assert set(findings) <= {"backup-incomplete"}
    assert pantry.content() == content
    victim.run_to_end("backup", "create")


@kill("ssh mysql", "relay postgresql")
def test_killed_restore_leaves_old_or_new_rows(victim, request):
    pantry = victim.pantry
    new = pantry.content()
    victim.run_to_end("backup", "create")
    pantry.change_data()
    old, timer = pantry.content(), KillTimer(create_rng(request.node.name), 2.5)
    for _ in range(KILLS):
        result = victim.run_killed(timer, "restore", "apply", "latest", "--yes")
        now = pantry.content()
        assert now in (old, new)
        require_truth(result, now == new)
        if now == new:
            victim.run_to_end("restore", "undo", "--yes")
    victim.run_to_end("restore", "apply", "latest", "--yes")
    assert pantry.content() == new


@kill("dbctl mysql", "ssh postgresql")
def test_killed_change_is_made_with_its_record_or_not_at_all(victim, request):
    pantry = victim.pantry

    def read():
        rows = pantry.rows("select text from much where id = 1")
        return rows, len([text for text in pantry.content()["history"] if "data.set" in text])

    timer = KillTimer(create_rng(request.node.name), 1.0)
    for _ in range(KILLS):
        pantry.run("update much set text = 'old' where id = 1")
        _, count = old = read()
        result = victim.run_killed(timer, *CHANGE)
        now = read()
        assert now in (old, ([("new",)], count + 1))
        require_truth(result, now != old)
    victim.run_to_end(*CHANGE)


@kill("ssh mysql", "container postgresql")
def test_killed_creation_of_a_user_is_made_with_its_record_or_not_at_all(victim, request):
    pantry, timer = victim.pantry, KillTimer(create_rng(request.node.name), 1.5)

    def read():
        content = pantry.content()
        return len(content["members"]), len([text for text in content["history"] if "joined" in text])

    for number in range(KILLS):
        users, records = old = read()
        words = f"zed{number}", "--email", f"zed{number}@larder.example", "--role", "cook", "--generate"
        result = victim.run_killed(timer, "users", "create", *words)
        now = read()
        assert now in (old, (users + 1, records + 1))
        require_truth(result, now != old)
    victim.run_to_end(
        "users", "create", "zed", "--email", "zed@larder.example", "--role", "cook", "--generate"
    )


@kill("dbctl postgresql", "relay mysql")
def test_killed_migrations_are_applied_with_their_records_or_not_at_all(victim, request):
    pantry, timer, count = victim.pantry, KillTimer(create_rng(request.node.name), 1.5), 0
    (pantry.folder / "migrations/000_start.sql").write_text("drop table if exists absent;\n")
    victim.run_to_end("migrate", "baseline", "--yes")
    for _ in range(KILLS):
        names = [f"{number:03}_rows" for number in range(count + 1, count + 1 + MIGRATIONS)]
        for number, name in enumerate(names, count + 1):
            rows = [f"insert into much values ({100_000 + 10 * number + row}, 'row');\n" for row in range(3)]
            (pantry.folder / f"migrations/{name}.sql").write_text("".join(rows))
        status, result = victim.run_killed(timer, "migrate", "up", "--no-backup")
        recorded, rows = read_migrations(pantry)
        assert recorded == list(range(1, len(recorded) + 1))
        if pantry.engine == "postgresql":
            assert rows == dict.fromkeys(recorded, 3)
        if status == 0:
            assert len(recorded) == count + MIGRATIONS
        elif status > 0 and result["error"]["code"] == "migration-failed":
            failed = int(re.search(r": (\d+)_rows failed", result["error"]["message"])[1])
            assert failed not in recorded, result
        elif status > 0 and len(recorded) > count:
            assert result["error"]["code"] in {*victims.IN_DOUBT, "migration-partial"}, result["error"]
        complete_migrations(victim)
        count += MIGRATIONS
        assert read_migrations(pantry) == (list(range(1, count + 1)), dict.fromkeys(range(1, count + 1), 3))


def read_migrations(pantry):
    """Return the numbers of the recorded migrations, and of rows by migration."""
    numbers = pantry.rows("select version from schema_migrations order by version")
    recorded = [int(number) for (number,) in numbers[1:]]
    rows = dict[int, int]()
    for (number,) in pantry.rows("select id from much where id > 100000"):
        rows[(number - 100_000) // 10] = rows.get((number - 100_000) // 10, 0) + 1
    return recorded, rows


def complete_migrations(victim):
    """Run the remaining migrations; decide as an administrator whether a statement of an engine without transactions has run."""
    status, result = wait_for_result(victim.start("migrate", "up", "--no-backup"))
    if status and result["error"]["code"] == "migration-statement-unknown":
        statement, name = re.search(r"statement (\d+) of (\d+)_rows", result["error"]["message"]).groups()
        key = 100_000 + 10 * int(name) + int(statement) - 1
        state = "done" if victim.pantry.rows(f"select id from much where id = {key}") else "undone"
        victim.run_to_end("migrate", "repair", f"{name}_rows", "--statement", state)
        victim.run_to_end("migrate", "up", "--no-backup")
    else:
        assert status == 0, result.get("error")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("victim", VICTIMS[:2], indirect=True)
def test_signal_ends_a_change_and_its_route(victim, runtime, number):
    old = victim.pantry.content()
    timer = KillTimer(create_rng(f"{number} through a route"), 0.5)
    for _ in range(KILLS):
        job = victim.start("backup", "create")
        timer.send_signal(job, number)
        status, result = wait_for_result(job)
        assert status in (0, 128 + number, -number), result  # the last before dbctl handles signals
        wait_until_empty(runtime)
        wait_until(lambda: not find_ssh(runtime))
    assert victim.pantry.content() == old
    assert not list(victim.pantry.folder.glob("dbctl-secret-*"))
