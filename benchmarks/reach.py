"""``users list`` through an SSH connection that is open, and ``backup create`` of a server in a container, against the same without a route."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, in_turn, process, ratios
from tests import servers
from tests.reach.containers import Container, start_podman
from tests.reach.ssh import start_ssh

LIST_GOAL, BACKUP_GOAL = 1.5, 1.3
LIST_ROUNDS, BACKUP_ROUNDS = 15, 3
#: About 150 bytes each.
ROWS = int(os.environ.get("DBCTL_BENCH_ROWS", "3300000"))
DATABASE = "dbctl_benchmark_reach"
CENTRAL = "postgresql://postgres@127.0.0.1/postgres"
URL = f"postgresql://postgres@127.0.0.1/{DATABASE}"
TITLE = (
    f"Users of a server behind SSH, and a backup of {ROWS:,} rows of a server in a container; whole processes"
)


def measure() -> Area:
    """Measure with an SSH server and a container of this machine."""
    place = Path(tempfile.mkdtemp(prefix="dbctl-benchmark-"))
    results, skipped = list[Result](), list[str]()
    try:
        for name, run in (("SSH", _list_users), ("Podman", _back_up)):
            try:
                results += run(place)
            except (OSError, subprocess.CalledProcessError):
                skipped.append(name)
    finally:
        shutil.rmtree(place)
    return Area(TITLE, results, skipped)


def _list_users(place: Path) -> Sequence[Result]:
    def psql(sql: str) -> None:
        subprocess.run(["psql", "-X", "-q", "-d", CENTRAL, "-c", sql], check=True, capture_output=True)

    psql(f"create database {DATABASE}")
    try:
        sample = [
            DBCTL,
            "demo",
            "waqtor",
            "sample",
            "--url",
            f"main={URL}",
            "--users",
            "100",
            "--messages",
            "200",
        ]
        subprocess.run(sample, cwd=place, env=ENVIRONMENT, check=True, capture_output=True)
        with start_ssh() as hosts:
            with hosts.config.open("a") as file:
                file.write(f"\n    ControlPath {hosts.folder}/shared\n")
            route = {"PATH": hosts.path}
            subprocess.run(["ssh", "-M", "-N", "-f", "bastion"], env={**ENVIRONMENT, **route}, check=True)
            try:
                words = ["users", "list", "--profile", "waqtor", "--url"]
                runs = {
                    "directly": process([DBCTL, *words, URL], cwd=place),
                    "behind SSH": process(_with(route, DBCTL, *words, f"{URL}?via=ssh:bastion"), cwd=place),
                }
                times = in_turn(runs, rounds=LIST_ROUNDS)
            finally:
                subprocess.run(
                    ["ssh", "-O", "exit", "bastion"],
                    env={**ENVIRONMENT, **route},
                    check=True,
                    capture_output=True,
                )
        return [
            Result("users list behind SSH", "directly", ratios(times, "behind SSH", "directly"), LIST_GOAL)
        ]
    finally:
        with suppress(subprocess.CalledProcessError):
            psql(f"drop database {DATABASE} with (force)")


def _back_up(place: Path) -> Sequence[Result]:
    if servers.SHARED not in os.environ:
        servers.begin_sharing()
    podman = start_podman()
    container = podman.postgresql(bridge=True)
    try:
        sql = (
            "create table much as select n as id, md5(n::text) || md5((n * 7)::text) as random,"
            f" repeat('the same again ', 4) as alike from generate_series(1, {ROWS}) n; alter table much add primary key (id)"
        )
        container.execute("psql", "-q", "-U", "shop", "shopdb", text=sql)
        runs = {
            name: process(
                _with(
                    podman.environment,
                    DBCTL,
                    "backup",
                    "create",
                    "--app",
                    name,
                    *_configure(place, name, address),
                ),
                cwd=place,
            )
            for name, address in {
                "directly": _address(container, container.address),
                "docker": _address(container, "127.0.0.1", f"docker:{container.name}"),
            }.items()
        }
        times = in_turn(runs, rounds=BACKUP_ROUNDS)
        return [
            Result(
                "backup create by docker exec", "directly", ratios(times, "docker", "directly"), BACKUP_GOAL
            )
        ]
    finally:
        podman.remove_created()


def _address(container: Container, host: str, via: str = "") -> str:
    password = quote(container.variables["POSTGRES_PASSWORD"], safe="")
    return f"postgresql://shop:{password}@{host}/shopdb" + (f"?via={via}" if via else "")


def _configure(place: Path, name: str, address: str) -> Sequence[str]:
    """Write the configuration of one app, and return the options that select it."""
    file = place / f"{name}.toml"
    file.write_text(
        f'[apps.{name}]\nprofile = "plain"\ndatabases = "{address}"\nbackup.repository = "{name}"\nbackup.keep.last = 1\n'
    )
    return ["--config", str(file)]


def _with(variables: Mapping[str, str], *words: str) -> list[str]:
    return ["env", *(f"{name}={text}" for name, text in variables.items()), *words]
