"""What a script or a reader looks up, made from the code: JSON Schemas of the answers, commands, errors.

``python -m dbctl.cli._reference`` writes them; a test says that they are current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from typer.core import TyperGroup
from typer.main import get_group

from dbctl.cli import completions
from dbctl.cli._support.options import share
from dbctl.cli.main import app
from dbctl.demo import command as sample
from dbctl.errors.base import DbctlError, Exit, StoppedError
from dbctl.model import Examined, Findings, Page, Plan, Planned, Severity
from dbctl.render.envelope import schema as schema_name
from dbctl.services import status
from dbctl.services.app.user_table import User
from dbctl.services.backup import copy as backup_copy
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import delete as backup_delete
from dbctl.services.backup import prune as backup_prune
from dbctl.services.backup import repository as backups
from dbctl.services.backup import status as backup_status
from dbctl.services.backup.foreign import adopt as backup_adopt
from dbctl.services.data import bulk as data_bulk
from dbctl.services.data import content as data_content
from dbctl.services.data import describe as data_describe
from dbctl.services.data import edit as data_changes
from dbctl.services.data import import_export as data_transfer
from dbctl.services.data import personal_data as user_data
from dbctl.services.data import query as data
from dbctl.services.integrity import repair as integrity_repair
from dbctl.services.maintenance import cancel
from dbctl.services.maintenance import tasks as maintain
from dbctl.services.migrations import baseline as migration_adopt
from dbctl.services.migrations import down as migration_down
from dbctl.services.migrations import rehearse as migration_rehearsal
from dbctl.services.migrations import repair as migration_mend
from dbctl.services.migrations import up as migration_run
from dbctl.services.migrations.files import new as migration_new
from dbctl.services.migrations.ledger.state import Migration
from dbctl.services.migrations.lint_rules import KINDS
from dbctl.services.profiles import inventory
from dbctl.services.restore import app_files as restore_files
from dbctl.services.restore import apply as restore
from dbctl.services.restore import copy as restore_copy
from dbctl.services.restore import preview as restore_preview
from dbctl.services.restore import restore_test as backup_drill
from dbctl.services.restore import salvage as recover
from dbctl.services.restore import tables as restore_table
from dbctl.services.roles import changes as role_changes
from dbctl.services.roles import queries as roles
from dbctl.services.schedule import crontab as schedule
from dbctl.services.search import all_tables as search_everything
from dbctl.services.search import detail as search_detail
from dbctl.services.search import external_index as search_aside
from dbctl.services.search import index as search_index
from dbctl.services.search import search
from dbctl.services.search.semantic import make_vectors as vector_making
from dbctl.services.search.semantic import store_vector as vector_changes
from dbctl.services.sessions import cleanup, sessions
from dbctl.services.sessions import rebuild_statistics as rebuild
from dbctl.services.settings import changes as setting_changes
from dbctl.services.settings import files as setting_files
from dbctl.services.settings.table import Setting
from dbctl.services.setup import init as setup
from dbctl.services.stats import connections as stats_sessions
from dbctl.services.stats import indexes as stats_indexes
from dbctl.services.stats import reports
from dbctl.services.stats import tables as stats
from dbctl.services.users import create as user_creation
from dbctl.services.users import delete as user_deletion
from dbctl.services.users import detail as user_shown
from dbctl.services.users import import_export as user_transfer
from dbctl.services.users import queries as users
from dbctl.services.users import update as user_changes

SCHEMAS = Path(__file__).parents[1] / "render" / "answers.schema.json"
PAGES = Path(__file__).parents[2] / "docs" / "reference"
WIDTH = 100

#: What each command answers; several where it depends on the options.
ANSWERS: Mapping[str, tuple[Any, ...]] = {
    "init": (setup.Initialised, Planned),
    "demo": (sample.SampleBuilt, Planned),
    "apps list": (Page[inventory.AppListed],),
    "apps show": (inventory.ProfileShown,),
    "apps check": (Findings,),
    "status": (Page[status.DatabaseStatus],),
    "doctor": (Examined,),
    "users list": (Page[User],),
    "users show": (user_shown.UserShown, Page[user_shown.UserShown]),
    "users create": (user_creation.UserCreated, Planned),
    "users ensure": (user_creation.UserCreated, Planned),
    "users update": (user_changes.UsersChanged, Planned),
    "users delete": (user_deletion.UsersDeleted, Planned),
    "users set-password": (user_changes.UsersChanged, Planned),
    "users set-role": (user_changes.UsersChanged, Planned),
    "users activate": (user_changes.UsersChanged, Planned),
    "users deactivate": (user_changes.UsersChanged, Planned),
    "users unlock": (user_changes.Unlocked, Planned),
    "users check-password": (users.PasswordChecked,),
    "users import": (user_transfer.UsersImported, Planned),
    "users export-data": (user_data.UserDataExported,),
    "users export": (Page[dict[str, Any]],),
    "roles list": (Page[roles.Role],),
    "roles show": (roles.Role,),
    "roles create": (role_changes.RoleChanged, Planned),
    "roles update": (role_changes.RoleChanged, Planned),
    "roles delete": (role_changes.RoleDeleted, Planned),
    "roles grant": (role_changes.RoleChanged, Planned),
    "roles revoke": (role_changes.RoleChanged, Planned),
    "roles matrix": (roles.Matrix,),
    "roles permissions": (Page[roles.Permission],),
    "roles can": (roles.Can,),
    "settings list": (Page[Setting],),
    "settings get": (Setting,),
    "settings set": (setting_changes.SettingChanged, Planned),
    "settings reset": (setting_changes.SettingChanged, Planned),
    "settings validate": (Findings,),
    "settings export": (dict[str, Any],),
    "settings diff": (Page[setting_files.Difference],),
    "settings apply": (setting_files.SettingsApplied, Planned),
    "migrate status": (Page[Migration],),
    "migrate plan": (Page[migration_run.Pending],),
    "migrate up": (Page[migration_run.Applied], Planned),
    "migrate down": (Page[migration_down.TakenBack], Planned),
    "migrate reset": (Page[migration_run.Applied], Planned),
    "migrate adopt": (migration_adopt.Adopting, Planned),
    "migrate mark": (migration_mend.Mending, Planned),
    "migrate repair": (migration_mend.Mending, Planned),
    "migrate new": (migration_new.FileCreated, Planned),
    "migrate verify": (Findings,),
    "backup create": (backup_create.BackupCreated, Planned),
    "backup list": (Page[backups.Backup],),
    "backup show": (backups.BackupShown,),
    "backup verify": (Findings,),
    "backup adopt": (backup_adopt.BackupsAdopted, Planned),
    "backup copy": (backup_copy.BackupsCopied, Planned),
    "backup status": (backup_status.BackupsStanding,),
    "backup drill": (backup_drill.Drilled, Planned),
    "backup prune": (backup_prune.Pruned, Planned),
    "backup delete": (backup_delete.Deleted, Planned),
    "restore preview": (restore_preview.Preview,),
    "restore apply": (restore.Restored, restore_copy.Copied, restore_table.TablesRestored, Planned),
    "restore files": (restore_files.FilesRestored, Planned),
    "restore undo": (restore.Restored, Planned),
    "restore recover": (recover.DatabaseRecovered, Planned),
    "migrate drift": (Findings,),
    "migrate lint": (Findings,),
    "migrate rehearse": (migration_rehearsal.Rehearsal,),
    "integrity check": (Findings,),
    "integrity cross": (Findings,),
    "integrity repair": (integrity_repair.Repaired, Planned),
    "stats overview": (Page[stats.DatabaseMeasured],),
    "stats tables": (Page[stats.TableMeasured],),
    "stats user": (stats.UserMeasured,),
    "stats activity": (Page[stats.Entry],),
    "stats locks": (Page[stats.Held], Page[stats_sessions.Blocked]),
    "stats connections": (Page[stats_sessions.Connected],),
    "stats slow": (Page[stats_sessions.Slowed],),
    "stats indexes": (Page[stats_indexes.IndexMeasured],),
    "stats bloat": (Page[stats_indexes.TableWasted],),
    "stats reports": (Page[reports.ReportListed],),
    "stats run": (Page[dict[str, Any]], reports.Explained),
    "maintain vacuum": (maintain.Maintained, Planned),
    "maintain analyze": (maintain.Maintained, Planned),
    "maintain optimize": (maintain.Maintained, Planned),
    "maintain reindex": (maintain.Maintained, Planned),
    "maintain checkpoint": (maintain.Maintained, Planned),
    "maintain wal": (maintain.Maintained, Planned),
    "maintain cancel": (cancel.Cancelled, Planned),
    "sessions list": (Page[sessions.Session],),
    "sessions revoke": (user_changes.UsersChanged, Planned),
    "sessions rebuild-stats": (rebuild.StatisticsRebuilt, Planned),
    "sessions cleanup": (cleanup.Cleaned, Page[cleanup.Due], Planned),
    "schedule cron": (Page[schedule.Job],),
    "search": (Page[dict[str, Any]], search.Counted, search.Explained, search_detail.Whole),
    "search everything": (search_everything.EverythingFound,),
    "search semantic": (Page[dict[str, Any]],),
    "search index status": (Page[search_index.Standing],),
    "search index check": (Findings,),
    "search index build": (search_aside.IndexChanged, Planned),
    "search index repair": (search_aside.IndexChanged, Planned),
    "search index drop": (search_aside.IndexChanged, Planned),
    "search vectors store": (vector_changes.VectorStored, Planned),
    "search vectors make": (vector_making.VectorsMade, Planned),
    "data rows": (Page[dict[str, Any]],),
    "data show": (dict[str, Any], data_content.ContentWritten),
    "data describe": (data_describe.TableDescribed,),
    "data add": (data_bulk.RowAdded, Planned),
    "data set": (data_changes.RowChanged, data_bulk.RowsChanged, Planned),
    "data delete": (data_changes.RowDeleted, data_bulk.RowsDeleted, Planned),
    "data query": (data.Answered,),
    "data export": (data_transfer.Exported,),
    "data import": (data_transfer.RowsImported, Planned),
    "completions show": (completions.Script,),
    "completions install": (completions.Installed,),
}

ERROR = {
    "type": "object",
    "required": ["code", "message", "hint"],
    "properties": {"code": {"enum": []}, "message": {"type": "string"}, "hint": {"type": "string"}},
    "additionalProperties": False,
}


def schemas() -> dict[str, Any]:
    """Return the JSON Schema of every answer in its envelope, by the name that the answer itself gives."""
    kinds = [kind for kinds in ANSWERS.values() for kind in kinds]
    made, parts = msgspec.json.schema_components(kinds, schema_hook=_any, ref_template="#/$defs/{name}")
    of = dict(zip(map(str, kinds), made, strict=True))
    parts = {name: _as_shown(part, name) for name, part in parts.items()}
    error = {**ERROR, "properties": {**ERROR["properties"], "code": {"enum": sorted(DbctlError.registry)}}}  # type: ignore[dict-item]
    answers = {
        schema_name(command.split()): {
            "title": f"dbctl {command} -o json",
            "type": "object",
            "required": ["schema", "ok", "exit_code", "target", "data", "warnings", "error"],
            "additionalProperties": False,
            "properties": {
                "schema": {"const": schema_name(command.split())},
                "ok": {"type": "boolean"},
                "exit_code": {"type": "integer"},
                "target": {"type": ["string", "null"]},
                "data": {"anyOf": [*(of[str(kind)] for kind in kinds), {"type": "null"}]},
                "warnings": {"type": "array", "items": {"type": "string"}},
                "error": {"anyOf": [{"$ref": "#/$defs/error"}, {"type": "null"}]},
            },
        }
        for command, kinds in ANSWERS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Answers of dbctl with -o json, each under its name",
        "answers": answers,
        "$defs": {**parts, "error": error},
    }


def commands() -> str:
    """Return a page with the help of every command."""
    pages = ["# Commands\n\nMade from the program itself: `dbctl COMMAND --help` prints the same.\n"]
    for words, text in helps():
        pages.append(f"## dbctl {words}\n\n```text\n{text}```\n" if words else f"```text\n{text}```\n")
    return "\n".join(pages)


def helps() -> Iterator[tuple[str, str]]:
    """Yield every command's words and its help, the root's first."""
    root = share(get_group(app))
    yield from _helps(
        root, root.make_context("dbctl", [], resilient_parsing=True, max_content_width=WIDTH), ""
    )


def errors() -> str:
    """Return a page with every error, by exit status."""
    lines = [
        "# Errors and exit statuses\n",
        "Made from the table of errors in `dbctl/errors/base.py`. The code stands in the JSON object as `error.code`.\n",
        "| exit | code | message | hint |",
        "| --- | --- | --- | --- |",
    ]
    known = sorted(DbctlError.registry.values(), key=lambda one: (one.exit_status, one.code))
    for one in known:
        status = f"{int(one.exit_status)} {Exit(one.exit_status).name.lower().replace('_', '-')}"
        if one is StoppedError:
            status = "128 + signal"
        message, hint = (text.replace("|", "\\|") for text in (one.sentence, one.remedy))
        lines.append(f"| {status} | `{one.code}` | {message} | {hint} |")
    return "\n".join(lines) + "\n"


def lint() -> str:
    """Return a page with all that ``migrate lint`` can find."""
    lines = [
        "# What migrate lint finds\n",
        "Made from the table in `dbctl/services/migrations/lint_rules.py`. A line `-- dbctl: allow CODE` above a statement, or at",
        "the top of a file, keeps a finding from being told; nothing allows `unusable`, a file that cannot be run.\n",
        "| severity | code | what to do |",
        "| --- | --- | --- |",
    ]
    order = list(get_args(Severity))[::-1]
    for code, one in sorted(KINDS.items(), key=lambda item: (order.index(item[1].severity), item[0])):
        lines.append(f"| {one.severity} | `{code}` | {one.hint} |")
    return "\n".join(lines) + "\n"


def _helps(command: Any, ctx: Any, words: str) -> Iterator[tuple[str, str]]:
    text = command.get_help(ctx)
    yield words, "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child is not None:
                inner = child.make_context(name, [], parent=ctx, resilient_parsing=True)
                yield from _helps(child, inner, f"{words} {name}".strip())


def _any(kind: type) -> dict[str, Any]:
    """Return the schema of what msgspec has none for: any value, and paths, which are text."""
    return {"type": "string"} if issubclass(kind, Path) else {"description": "Any value."}


def _as_shown(part: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of a struct as it is shown: with what it derives, and its further columns beside it."""
    shown = {**part, "properties": dict(part.get("properties", {}))}
    derived = {"has_more": {"type": "boolean"}} if name.startswith("Page") else {}
    if name.startswith("Page"):  # what helps to draw it is not shown
        shown["properties"] = {
            key: told
            for key, told in shown["properties"].items()
            if key not in {"names", "nothing", "alike", "after"}
        }
    derived |= {"digest": {"type": "string"}} if name == Plan.__name__ else {}
    shown["properties"] |= derived
    shown["properties"].pop("extra", None)
    # Every field is always there, also those that have a default when one is made.
    shown["required"] = list(shown["properties"])
    for told in shown["properties"].values():
        told.pop("default", None)
    text = json.dumps(shown).replace('"type": "string", "format": "duration"', '"type": "number"')  # seconds
    return dict(json.loads(text))


def main() -> None:
    """Write everything."""
    SCHEMAS.write_text(json.dumps(schemas(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "commands.md").write_text(commands(), encoding="utf-8")
    (PAGES / "errors.md").write_text(errors(), encoding="utf-8")
    (PAGES / "lint.md").write_text(lint(), encoding="utf-8")


if __name__ == "__main__":
    main()
