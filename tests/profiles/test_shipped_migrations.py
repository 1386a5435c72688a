"""Every shipped migration: up, down if it has a down script, and up again to the same schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from dbctl.config.sections import Selection
from dbctl.engines.registry import load_engine
from dbctl.profiles import loader
from dbctl.services.migrations.status import create_shipped_target
from tests.databases import ComparedDatabase, empty_database

#: Profile, database, variant and engine of all shipped migrations.
SHIPPED = [
    (name, database, variant, engine)
    for name in loader.names()
    if (Path(__file__).parents[2] / "migrations" / name).is_dir()
    for database, section in loader.load(name).databases.items()
    if section.migrations
    for variant, engines in [(entry.name, entry.engines) for entry in section.migrations.variant]
    or [("", ())]
    for engine in section.engines
    if not engines or engine in engines
]
Answer = Callable[..., dict[str, Any]]
#: Variants of YAAI's deployments: the down scripts of the app do not work.
WITHOUT_DOWN = {"deployed", "printed", "printed-indexed", "printed-completed"}


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    def answer(*words: str) -> dict[str, Any]:
        status = main([*words, "-o", "json"])
        output = json.loads(capsys.readouterr().out)
        assert status == 0, output
        return dict(output)

    return answer


def read_schema(target: ComparedDatabase) -> Sequence[tuple[object, ...]]:
    """Return the schema as the database stores it."""
    if target.engine == "sqlite":
        rows = target.rows(
            "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite_%'"
        )
    else:
        columns = "table_name, column_name, data_type, is_nullable, column_default"
        rows = target.rows(
            f"select {columns} from information_schema.columns where table_schema = "
            + ("database()" if target.engine == "mysql" else "current_schema()")
        )
    return sorted(rows, key=str)


@pytest.mark.parametrize(("profile", "database", "variant", "engine"), SHIPPED)
def test_shipped_migrations_apply_and_status_reads_read_only_copy(
    profile: str, database: str, variant: str, engine: str, tmp_path: Path, answer: Answer
) -> None:
    migrations = create_shipped_target(loader.load(profile), database, profile, engine, variant=variant)
    variant_option = ["--variant", variant] if variant else []
    with empty_database(engine, tmp_path / "it.db") as target:
        app = ["--profile", profile, "--url", f"{database}={target.url}", "--db", database]
        result = answer(*app, "migrate", "up", *variant_option)["data"]["items"]
        others = {
            name for names in migrations.section.one_of for name in names[1:]
        } & migrations.folder.files.keys()
        assert [migration["name"] for migration in result] == [
            name for name in migrations.folder.files if name not in others
        ]
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for path in tmp_path.iterdir():
            path.chmod(0o444)
        items = answer(*app, "migrate", "status", "--check")["data"]["items"]
        assert {migration["state"] for migration in items} == (
            {"applied", "baseline"} if others else {"applied"}
        )
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        for path in tmp_path.iterdir():
            path.chmod(0o644)

        created_schema = read_schema(target)
        read = load_engine(engine).script_dialect
        back = []
        for name, file in reversed(migrations.folder.files.items()):
            if file.parse_down(read) is None:
                break
            back.append(name)
        if back:
            down = answer(*app, "migrate", "down", "--steps", str(len(back)), "--yes", "--no-backup")
            assert [row["name"] for row in down["data"]["items"]] == back
            assert read_schema(target) != created_schema
            repeated = answer(*app, "migrate", "up", *variant_option)["data"]["items"]
            assert [migration["name"] for migration in repeated] == back[::-1]
            assert read_schema(target) == created_schema


def test_reversible_formats_have_down_scripts() -> None:
    for profile, database, variant, engine in SHIPPED:
        migrations = create_shipped_target(loader.load(profile), database, profile, engine, variant=variant)
        if migrations.section.format in ("up-down", "dbmate", "goose") and not (
            profile == "yaai" and (variant in WITHOUT_DOWN or database == "memory")
        ):
            assert all(
                file.parse_down(load_engine(engine).script_dialect)
                for file in migrations.folder.files.values()
            )


@pytest.mark.parametrize(
    ("profile", "database"),
    sorted({(name, database) for name, database, _, engine in SHIPPED if engine == "sqlite"}),
)
def test_migrations_of_new_file_are_synced_before_report(profile: str, database: str, tmp_path: Path) -> None:
    from dbctl.services.app.session import open_app

    selection = Selection(profile=profile, urls=[f"{database}={tmp_path / 'new.db'}"])
    with open_app(selection, timeout=1) as app, app.writer(database, create=True) as db:
        assert db.query("pragma synchronous") == [
            (3,)
        ]  # EXTRA: each commit and the deletion of its journal are synced
