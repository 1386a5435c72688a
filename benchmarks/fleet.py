"""Commands on a fleet of 1,000 SQLite tenants: ``status``, and ``migrate up`` against its transactions alone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, megabytes, process, ratios

TENANTS, ROWS, ROUNDS = 1_000, 5_000, 3
#: Seconds that ``status`` may take.
STATUS_SECONDS = 5

CREATE = "create table items (id integer primary key, name text);\n"
CHANGE = """alter table items add column price integer not null default 0;
update items set price = length(name) * 10;
create index items_price on items (price);
"""
#: The same transactions, one after the other, without dbctl.
ALONE = """
import sqlite3, sys
from pathlib import Path
for path in sorted(Path("tenants").glob("*/app.db")):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    for statement in sys.argv[1].split(";")[:-1]:
        connection.execute(statement)
    connection.execute("insert into schema_migrations (version) values ('002')")
    connection.execute("commit")
    connection.close()
"""


def measure() -> Area:
    """Measure ``status`` of the fleet, and its migration; each migration starts from new copies."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = _create_template(folder)
        _copy_tenants(folder, template)
        status = process([DBCTL, "status"], cwd=folder)
        status()
        seconds = [status() for _ in range(ROUNDS)]
        memory = megabytes([DBCTL, "status"], cwd=folder)
        up = in_turn(
            {
                "dbctl": _run_on_copies(folder, template, [DBCTL, "migrate", "up", "--no-backup", "-q"]),
                "alone": _run_on_copies(folder, template, [sys.executable, "-c", ALONE, CHANGE]),
            },
            rounds=ROUNDS,
        )
    return Area(
        f"Fleet of {TENANTS:,} SQLite tenants with {ROWS:,} rows",
        [
            Result("status", "", seconds, STATUS_SECONDS, unit=" s"),
            Result("status: peak memory", "", [memory], None, unit=" MB"),
            Result("migrate up", "its transactions alone, in sequence", ratios(up, "dbctl", "alone"), 1.3),
        ],
    )


def _create_template(folder: Path) -> Path:
    """Create the configuration, and return a database with the first of two migrations."""
    migrations, template = folder / "migrations", folder / "template.db"
    migrations.mkdir()
    (migrations / "001_items.sql").write_text(f"-- migrate:up\n{CREATE}-- migrate:down\ndrop table items;\n")
    url = ["--url", str(template), "--migrations", str(migrations)]
    subprocess.run([DBCTL, "migrate", "up", *url], env=ENVIRONMENT, capture_output=True, check=True)
    with sqlite3.connect(template) as connection:
        rows = ((f"item {number * 7919 % 100_003}",) for number in range(ROWS))
        connection.executemany("insert into items (name) values (?)", rows)
    connection.close()
    down = "drop index items_price;\nalter table items drop column price;\n"
    (migrations / "002_price.sql").write_text(f"-- migrate:up\n{CHANGE}-- migrate:down\n{down}")
    (folder / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\ndatabases = "tenants/*/app.db"\n[apps.shop.migrations]\nmain = "migrations"\n'
    )
    return template


def _copy_tenants(folder: Path, template: Path) -> None:
    shutil.rmtree(folder / "tenants", ignore_errors=True)
    for number in range(TENANTS):
        tenant = folder / "tenants" / f"t{number:04}"
        tenant.mkdir(parents=True)
        shutil.copy(template, tenant / "app.db")


def _run_on_copies(folder: Path, template: Path, words: list[str]) -> Run:
    def run() -> float:
        _copy_tenants(folder, template)
        begin = time.perf_counter()
        environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(folder / "state")}
        subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=True)
        return time.perf_counter() - begin

    return run
