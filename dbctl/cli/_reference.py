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
from dbctl.demo.command import SampleBuilt
from dbctl.errors import Exit, StoppedError, load_registry
from dbctl.model import Examined, Findings, Page, Plan, Planned, Severity
from dbctl.render import schema as schema_name
from dbctl.services import status
from dbctl.services.app import User
from dbctl.services.backup import (
    Backup,
    BackupCreated,
    BackupsCopied,
    BackupShown,
    BackupsStanding,
    Deleted,
    Pruned,
)
from dbctl.services.backup.foreign import BackupsAdopted
from dbctl.services.data import (
    Answered,
    ContentWritten,
    Exported,
    RowAdded,
    RowChanged,
    RowDeleted,
    RowsChanged,
    RowsDeleted,
    RowsImported,
    TableDescribed,
    UserDataExported,
)
from dbctl.services.integrity import Repaired
from dbctl.services.maintenance import Maintained, cancel
from dbctl.services.migrations import KINDS, Adopting, Applied, Mending, Pending, Rehearsal, TakenBack
from dbctl.services.migrations.files import FileCreated
from dbctl.services.migrations.ledger import Migration
from dbctl.services.profiles import inventory
from dbctl.services.restore import (
    Copied,
    DatabaseRecovered,
    Drilled,
    FilesRestored,
    Preview,
    Restored,
    TablesRestored,
)
from dbctl.services.roles import Can, Matrix, Permission, Role, RoleChanged, RoleDeleted
from dbctl.services.schedule import Job
from dbctl.services.search import EverythingFound, IndexChanged, Standing, Whole, search
from dbctl.services.search.semantic import VectorsMade, VectorStored
from dbctl.services.sessions import StatisticsRebuilt, cleanup, sessions
from dbctl.services.settings import Difference, Setting, SettingChanged, SettingsApplied
from dbctl.services.setup import Initialised
from dbctl.services.stats import (
    Blocked,
    Connected,
    DatabaseMeasured,
    Entry,
    Held,
    IndexMeasured,
    Slowed,
    TableMeasured,
    TableWasted,
    UserMeasured,
    reports,
)
from dbctl.services.users import (
    PasswordChecked,
    Unlocked,
    UserCreated,
    UsersChanged,
    UsersDeleted,
    UserShown,
    UsersImported,
)

SCHEMAS = Path(__file__).parents[1] / "render" / "answers.schema.json"
PAGES = Path(__file__).parents[2] / "docs" / "reference"
WIDTH = 100

#: What each command answers; several where it depends on the options.
ANSWERS: Mapping[str, tuple[Any, ...]] = {
    "init": (Initialised, Planned),
    "demo": (SampleBuilt, Planned),
    "apps list": (Page[inventory.AppListed],),
    "apps show": (inventory.ProfileShown,),
    "apps check": (Findings,),
    "status": (Page[status.DatabaseStatus],),
    "doctor": (Examined,),
    "users list": (Page[User],),
    "users show": (UserShown, Page[UserShown]),
    "users create": (UserCreated, Planned),
    "users ensure": (UserCreated, Planned),
    "users update": (UsersChanged, Planned),
    "users delete": (UsersDeleted, Planned),
    "users set-password": (UsersChanged, Planned),
    "users set-role": (UsersChanged, Planned),
    "users activate": (UsersChanged, Planned),
    "users deactivate": (UsersChanged, Planned),
    "users unlock": (Unlocked, Planned),
    "users check-password": (PasswordChecked,),
    "users import": (UsersImported, Planned),
    "users export-data": (UserDataExported,),
    "users export": (Page[dict[str, Any]],),
    "roles list": (Page[Role],),
    "roles show": (Role,),
    "roles create": (RoleChanged, Planned),
    "roles update": (RoleChanged, Planned),
    "roles delete": (RoleDeleted, Planned),
    "roles grant": (RoleChanged, Planned),
    "roles revoke": (RoleChanged, Planned),
    "roles matrix": (Matrix,),
    "roles permissions": (Page[Permission],),
    "roles can": (Can,),
    "settings list": (Page[Setting],),
    "settings get": (Setting,),
    "settings set": (SettingChanged, Planned),
    "settings reset": (SettingChanged, Planned),
    "settings validate": (Findings,),
    "settings export": (dict[str, Any],),
    "settings diff": (Page[Difference],),
    "settings apply": (SettingsApplied, Planned),
    "migrate status": (Page[Migration],),
    "migrate plan": (Page[Pending],),
    "migrate up": (Page[Applied], Planned),
    "migrate down": (Page[TakenBack], Planned),
    "migrate reset": (Page[Applied], Planned),
    "migrate baseline": (Adopting, Planned),
    "migrate mark": (Mending, Planned),
    "migrate repair": (Mending, Planned),
    "migrate new": (FileCreated, Planned),
    "migrate verify": (Findings,),
    "backup create": (BackupCreated, Planned),
    "backup list": (Page[Backup],),
    "backup show": (BackupShown,),
    "backup verify": (Findings,),
    "backup adopt": (BackupsAdopted, Planned),
    "backup copy": (BackupsCopied, Planned),
    "backup status": (BackupsStanding,),
    "backup drill": (Drilled, Planned),
    "backup prune": (Pruned, Planned),
    "backup delete": (Deleted, Planned),
    "restore preview": (Preview,),
    "restore apply": (Restored, Copied, TablesRestored, Planned),
    "restore files": (FilesRestored, Planned),
    "restore undo": (Restored, Planned),
    "restore recover": (DatabaseRecovered, Planned),
    "migrate drift": (Findings,),
    "migrate lint": (Findings,),
    "migrate rehearse": (Rehearsal,),
    "integrity check": (Findings,),
    "integrity cross-check": (Findings,),
    "integrity repair": (Repaired, Planned),
    "stats overview": (Page[DatabaseMeasured],),
    "stats tables": (Page[TableMeasured],),
    "stats user": (UserMeasured,),
    "stats activity": (Page[Entry],),
    "stats locks": (Page[Held], Page[Blocked]),
    "stats connections": (Page[Connected],),
    "stats slow": (Page[Slowed],),
    "stats indexes": (Page[IndexMeasured],),
    "stats bloat": (Page[TableWasted],),
    "stats reports": (Page[reports.ReportListed],),
    "stats run": (Page[dict[str, Any]], reports.Explained),
    "maintain vacuum": (Maintained, Planned),
    "maintain analyze": (Maintained, Planned),
    "maintain optimize": (Maintained, Planned),
    "maintain reindex": (Maintained, Planned),
    "maintain checkpoint": (Maintained, Planned),
    "maintain wal": (Maintained, Planned),
    "maintain cancel": (cancel.Cancelled, Planned),
    "sessions list": (Page[sessions.Session],),
    "sessions revoke": (UsersChanged, Planned),
    "sessions rebuild-stats": (StatisticsRebuilt, Planned),
    "sessions cleanup": (cleanup.Cleaned, Page[cleanup.Due], Planned),
    "schedule cron": (Page[Job],),
    "search": (Page[dict[str, Any]], search.Counted, search.Explained, Whole),
    "search all": (EverythingFound,),
    "search semantic": (Page[dict[str, Any]],),
    "search index status": (Page[Standing],),
    "search index check": (Findings,),
    "search index build": (IndexChanged, Planned),
    "search index repair": (IndexChanged, Planned),
    "search index drop": (IndexChanged, Planned),
    "search vectors store": (VectorStored, Planned),
    "search vectors make": (VectorsMade, Planned),
    "data rows": (Page[dict[str, Any]],),
    "data show": (dict[str, Any], ContentWritten),
    "data describe": (TableDescribed,),
    "data add": (RowAdded, Planned),
    "data set": (RowChanged, RowsChanged, Planned),
    "data delete": (RowDeleted, RowsDeleted, Planned),
    "data query": (Answered,),
    "data export": (Exported,),
    "data import": (RowsImported, Planned),
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
    error = {**ERROR, "properties": {**ERROR["properties"], "code": {"enum": sorted(load_registry())}}}  # type: ignore[dict-item]
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
        "Made from the table of errors in `dbctl/errors/`. The code stands in the JSON object as `error.code`.\n",
        "| exit | code | message | hint |",
        "| --- | --- | --- | --- |",
    ]
    known = sorted(load_registry().values(), key=lambda one: (one.exit_status, one.code))
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
