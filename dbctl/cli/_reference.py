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
from dbctl.cli._options import share
from dbctl.cli.main import app
from dbctl.errors import DbctlError, Exit, StoppedError
from dbctl.model import Examined, Findings, Page, Plan, Planned, Severity
from dbctl.render.envelope import schema as schema_name
from dbctl.services import (
    backup_adopt,
    backup_copy,
    backup_create,
    backup_delete,
    backup_drill,
    backup_prune,
    backup_status,
    backups,
    cancel,
    cleanup,
    data,
    data_bulk,
    data_changes,
    data_content,
    data_describe,
    data_transfer,
    integrity_repair,
    inventory,
    maintain,
    migration_adopt,
    migration_down,
    migration_mend,
    migration_new,
    migration_rehearsal,
    migration_run,
    rebuild,
    recover,
    reports,
    restore,
    restore_copy,
    restore_files,
    restore_preview,
    restore_table,
    role_changes,
    roles,
    sample,
    schedule,
    search,
    search_aside,
    search_detail,
    search_everything,
    search_index,
    sessions,
    setting_changes,
    setting_files,
    setup,
    stats,
    stats_indexes,
    stats_sessions,
    status,
    user_changes,
    user_creation,
    user_data,
    user_deletion,
    user_shown,
    user_transfer,
    users,
    vector_changes,
    vector_making,
)
from dbctl.services.migration_hazards import KINDS
from dbctl.services.migration_standing import Migration
from dbctl.services.setting_table import Setting
from dbctl.services.user_table import User

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
        "Made from the table of errors in `dbctl/errors.py`. The code stands in the JSON object as `error.code`.\n",
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
        "Made from the table in `dbctl/services/migration_hazards.py`. A line `-- dbctl: allow CODE` above a statement, or at",
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
