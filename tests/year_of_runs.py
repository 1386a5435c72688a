"""Configured apps whose journal has samples and runs of many days, for the report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec

from dbctl.model import now
from dbctl.services.events import store
from dbctl.services.events.runs import Run, RunError, name_result
from dbctl.services.events.samples import Sample, TableSample, save_samples

GIB = 1 << 30
CHANGES = ("users create", "settings set", "data set", "migrate up", "sessions cleanup")


def create_apps(folder: Path, names: Sequence[str], *, days: int, text: str = "") -> Path:
    """Write a configuration, databases, and a journal in ``folder/state``; return the configuration.

    Args:
        folder: an existing directory.
        names: of the apps.
        days: with a sample and two runs of each app.
        text: is in the names of tables, the arguments and the messages of errors.
    """
    config = folder / "dbctl.toml"
    sections = []
    for index, name in enumerate(names):
        database = folder / f"app{index}.db"
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript("create table posts (id integer primary key, title text);")
        sections.append(
            f'[apps.{json.dumps(name)}]\nprofile = "plain"\ndatabases = "{database.name}"\n'
            f'[apps.{json.dumps(name)}.backup]\nrepository = "backups"\nmax_age = "26h"\n'
        )
    config.write_text("\n".join(sections))
    state = folder / "state"
    samples = [
        sample for index, name in enumerate(names) for sample in _create_samples(index, name, days, text)
    ]
    save_samples(state, str(config), samples)
    _record_runs(state, str(config), names, days, text)
    return config


def _create_samples(index: int, name: str, days: int, text: str) -> list[Sample]:
    rows, begin, samples = 1000 * (index + 1), now() - timedelta(days=days), []
    for day in range(days):
        rows += (day * 7919 + index * 104_729) % (45 + 10 * index) - 5
        samples.append(
            Sample(
                app=name,
                database="main",
                taken_at=begin + timedelta(days=day),
                bytes=rows * 410 + (1 << 20),
                free_bytes=60 * GIB - day * (20 << 20) - (day * 7919) % (1 << 20),
                disk_bytes=100 * GIB,
                users=10 * (index + 1) + day // 5,
                tables={
                    f"posts{text}": TableSample(rows=rows, bytes=rows * 300),
                    **{f"table_{number}": TableSample(rows=rows // number) for number in range(2, 20)},
                },
                figures={f"activity.active{text}": float(rows % 97)},
            )
        )
    return samples


def _record_runs(state: Path, config: str, names: Sequence[str], days: int, text: str) -> None:
    """Write the records of runs directly: each run of a recorder waits for the disk."""
    with store.EventStore(state).writing() as connection:
        for day in range(days, 0, -1):
            for index, name in enumerate(names):
                failed = (day * 31 + index * 17) % 37 == 0
                run = Run(
                    command="backup create",
                    app=name,
                    config=config,
                    started_at=now() - timedelta(days=day) + timedelta(minutes=index),
                    duration=12.5,
                    exit_code=10 if failed else 0,
                    result=name_result(10 if failed else 0),
                    error=RunError(code="unreachable", message=f"cannot open the database {text}", hint="")
                    if failed
                    else None,
                    user=f"root{text}",
                )
                change = msgspec.structs.replace(
                    run,
                    command=CHANGES[(day + index) % len(CHANGES)],
                    arguments=["ann", text],
                    error=None,
                    exit_code=0,
                    result="ok",
                )
                for record in (run, change):
                    connection.execute(
                        "insert into runs (command, result, failed, started_at, record) values (?, ?, ?, ?, ?)",
                        (
                            record.command,
                            record.result,
                            record.exit_code != 0,
                            record.started_at.isoformat(),
                            msgspec.json.encode(record),
                        ),
                    )
