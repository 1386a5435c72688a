"""Generate the reference from the code: JSON Schemas of answers, commands, errors, findings, lint rules, and keys of profiles and of the configuration.

``python -m tools.reference`` writes it; a test compares it with the code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
from typer.core import TyperGroup
from typer.main import get_group

from dbctl.cli import completions, man
from dbctl.cli._support.options import add_common_options
from dbctl.cli.help import HelpText
from dbctl.cli.main import app
from dbctl.cli.report import PageWritten
from dbctl.demo.command import SampleBuilt
from dbctl.errors import Exit, StoppedError, load_registry
from dbctl.model import ChangeResult, CheckResult, DryRunResult, Effect, Findings, Page, Plan, Severity
from dbctl.render import schema as schema_name
from dbctl.services import status
from dbctl.services.app import User
from dbctl.services.audit import AuditChecked, Operation, OperationDetails
from dbctl.services.backup import (
    Backup,
    BackupCreated,
    BackupDetail,
    BackupsCopied,
    BackupsDeleted,
    BackupsPinned,
    BackupsPruned,
    BackupStatus,
)
from dbctl.services.backup.foreign import BackupsAdopted
from dbctl.services.comparison import DataDiff, SchemaDiff
from dbctl.services.data import (
    ContentWriteResult,
    ExportResult,
    ImportResult,
    QueryResult,
    RowAddResult,
    RowChangeResult,
    RowDeleteResult,
    RowsChangeResult,
    RowsDeleteResult,
    UserDataExported,
)
from dbctl.services.fleet import FleetResult, ListedInstance
from dbctl.services.history import GrowthHistory, TablePoint
from dbctl.services.hooks import MaintenanceChanged
from dbctl.services.integrity import DatabasesChecked
from dbctl.services.integrity import RepairResult as IntegrityRepairResult
from dbctl.services.journal import Run, RunDetails, RunsPruned
from dbctl.services.maintenance import MaintenanceResult, cancel
from dbctl.services.metrics import FAMILIES, PREFIX, MetricsWritten, Sample
from dbctl.services.migrations import (
    LINT_RULES,
    BaselineResult,
    MigrationsRun,
    PendingMigration,
    Rehearsal,
    RepairResult,
)
from dbctl.services.migrations.files import CreatedFile
from dbctl.services.migrations.ledger import Migration
from dbctl.services.notify import ChannelTests, ProblemsSent
from dbctl.services.profiles import inventory
from dbctl.services.profiles.draft import ProfileDraft
from dbctl.services.report import OperationsReport
from dbctl.services.restore import (
    CopyResult,
    DatabaseSalvageResult,
    DrillResult,
    FilesRestoreResult,
    Preview,
    RestoreResult,
    TablesRestoreResult,
)
from dbctl.services.roles import Matrix, Permission, PermissionCheck, Role, RoleChangeResult, RoleDeleteResult
from dbctl.services.schedule import Job, JobStatus, Manifest, Unit, UnitsInstalled
from dbctl.services.schema import SchemaDiagram, TableDescriptions, TableOverview
from dbctl.services.search import AllTablesResult, RowDetail, search
from dbctl.services.search.indexes import IndexChangeResult, IndexStatus
from dbctl.services.search.semantic import MakeVectorsResult, VectorStored
from dbctl.services.sessions import RebuildResult, cleanup, sessions
from dbctl.services.settings import Difference, Setting, SettingChanged, SettingsApplied, SettingUpdated
from dbctl.services.setup import ConfigEdited, ConfiguredKey, InitResult, KeyDescription
from dbctl.services.stats import (
    AuditEntry,
    BlockedSession,
    Connection,
    DatabaseStats,
    IndexStats,
    LockHolder,
    SlowStatement,
    TableBloat,
    TableStats,
    UserStats,
    reports,
)
from dbctl.services.support import BundledFile, Component
from dbctl.services.transfer import (
    SwitchResult,
    TransferPlan,
    TransferResult,
    TransferVerification,
    UnlockResult,
)
from dbctl.services.undo import Undone
from dbctl.services.users import (
    PasswordChecked,
    Unlocked,
    UserCreated,
    UsersChanged,
    UsersDeleted,
    UserShown,
    UsersImported,
)
from tools.findings_page import findings_page
from tools.schema_pages import configuration_page, profile_page

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "dbctl/render/answers.schema.json"
PAGES = ROOT / "docs/reference"
WIDTH = 100

#: Result types of each command; several if they depend on the options.
ANSWERS: Mapping[str, tuple[Any, ...]] = {
    "init": (InitResult, DryRunResult),
    "demo": (SampleBuilt, DryRunResult),
    "config show": (Page[ConfiguredKey],),
    "config explain": (KeyDescription, Page[KeyDescription]),
    "config edit": (ConfigEdited,),
    "config validate": (Findings,),
    "config schema": (dict[str, Any],),
    "apps list": (Page[inventory.AppListed],),
    "apps show": (inventory.ProfileShown,),
    "apps check": (Findings,),
    "apps instances": (Page[ListedInstance],),
    "apps maintenance": (MaintenanceChanged, DryRunResult),
    "profiles list": (Page[inventory.ProfileListed],),
    "profiles draft": (ProfileDraft,),
    "support": (Page[BundledFile],),
    "version": (Page[Component],),
    "status": (status.StatusPage,),
    "report": (OperationsReport, PageWritten),
    "doctor": (CheckResult,),
    "users list": (Page[User],),
    "users show": (UserShown, Page[UserShown]),
    "users create": (UserCreated, DryRunResult),
    "users ensure": (UserCreated, DryRunResult),
    "users update": (UsersChanged, DryRunResult),
    "users delete": (UsersDeleted, DryRunResult),
    "users set-password": (UsersChanged, DryRunResult),
    "users set-role": (UsersChanged, DryRunResult),
    "users add-role": (UsersChanged, DryRunResult),
    "users remove-role": (UsersChanged, DryRunResult),
    "users activate": (UsersChanged, DryRunResult),
    "users deactivate": (UsersChanged, DryRunResult),
    "users unlock": (Unlocked, DryRunResult),
    "users check-password": (PasswordChecked,),
    "users import": (UsersImported, DryRunResult),
    "users export-data": (UserDataExported,),
    "users export": (Page[dict[str, Any]],),
    "roles list": (Page[Role],),
    "roles show": (Role,),
    "roles create": (RoleChangeResult, DryRunResult),
    "roles update": (RoleChangeResult, DryRunResult),
    "roles delete": (RoleDeleteResult, DryRunResult),
    "roles grant": (RoleChangeResult, DryRunResult),
    "roles revoke": (RoleChangeResult, DryRunResult),
    "roles matrix": (Matrix,),
    "roles permissions": (Page[Permission],),
    "roles can": (PermissionCheck,),
    "settings list": (Page[Setting],),
    "settings get": (Setting,),
    "settings set": (SettingChanged, DryRunResult),
    "settings reset": (SettingChanged, DryRunResult),
    "settings update": (SettingUpdated, DryRunResult),
    "settings validate": (Findings,),
    "settings export": (dict[str, Any],),
    "settings diff": (Page[Difference],),
    "settings apply": (SettingsApplied, DryRunResult),
    "migrate status": (Page[Migration],),
    "migrate plan": (Page[PendingMigration],),
    "migrate up": (MigrationsRun, DryRunResult),
    "migrate down": (MigrationsRun, DryRunResult),
    "migrate reset": (MigrationsRun, DryRunResult),
    "migrate baseline": (BaselineResult, DryRunResult),
    "migrate mark": (RepairResult, DryRunResult),
    "migrate repair": (RepairResult, DryRunResult),
    "migrate new": (CreatedFile, DryRunResult),
    "migrate verify": (Findings,),
    "backup create": (BackupCreated, DryRunResult),
    "backup list": (Page[Backup],),
    "backup show": (BackupDetail,),
    "backup verify": (Findings,),
    "backup adopt": (BackupsAdopted, DryRunResult),
    "backup copy": (BackupsCopied, DryRunResult),
    "backup status": (BackupStatus,),
    "backup drill": (DrillResult, DryRunResult),
    "backup prune": (BackupsPruned, DryRunResult),
    "backup delete": (BackupsDeleted, DryRunResult),
    "backup pin": (BackupsPinned, DryRunResult),
    "backup unpin": (BackupsPinned, DryRunResult),
    "restore preview": (Preview,),
    "restore apply": (RestoreResult, CopyResult, TablesRestoreResult, DryRunResult),
    "restore files": (FilesRestoreResult, DryRunResult),
    "restore undo": (RestoreResult, DryRunResult),
    "restore recover": (DatabaseSalvageResult, DryRunResult),
    "migrate drift": (Findings,),
    "migrate lint": (Findings,),
    "migrate rehearse": (Rehearsal,),
    "integrity check": (DatabasesChecked,),
    "integrity cross-check": (Findings,),
    "integrity repair": (IntegrityRepairResult, DryRunResult),
    "stats history": (GrowthHistory, Page[TablePoint]),
    "stats overview": (Page[DatabaseStats],),
    "stats tables": (Page[TableStats],),
    "stats user": (UserStats,),
    "stats activity": (Page[AuditEntry],),
    "stats locks": (Page[LockHolder], Page[BlockedSession]),
    "stats connections": (Page[Connection],),
    "stats slow": (Page[SlowStatement],),
    "stats indexes": (Page[IndexStats],),
    "stats bloat": (Page[TableBloat],),
    "stats reports": (Page[reports.ReportSummary],),
    "stats run": (Page[dict[str, Any]], reports.ReportPlan),
    "maintain vacuum": (MaintenanceResult, DryRunResult),
    "maintain analyze": (MaintenanceResult, DryRunResult),
    "maintain optimize": (MaintenanceResult, DryRunResult),
    "maintain reindex": (MaintenanceResult, DryRunResult),
    "maintain checkpoint": (MaintenanceResult, DryRunResult),
    "maintain wal": (MaintenanceResult, DryRunResult),
    "maintain cancel": (cancel.CancelResult, DryRunResult),
    "sessions list": (Page[sessions.Session],),
    "sessions revoke": (UsersChanged, DryRunResult),
    "sessions rebuild-stats": (RebuildResult, DryRunResult),
    "sessions cleanup": (cleanup.CleanupResult, cleanup.DueRules, DryRunResult),
    "schedule cron": (Page[Job],),
    "schedule systemd": (Page[Unit], UnitsInstalled, DryRunResult),
    "schedule kubernetes": (Manifest,),
    "schedule compose": (Manifest,),
    "schedule status": (Page[JobStatus],),
    "metrics": (Page[Sample], MetricsWritten),
    "runs list": (Page[Run],),
    "runs show": (RunDetails,),
    "runs prune": (RunsPruned, DryRunResult),
    "audit list": (Page[Operation],),
    "audit show": (OperationDetails,),
    "audit verify": (AuditChecked,),
    "audit export": (Page[dict[str, Any]],),
    "undo": (Undone, DryRunResult),
    "notify test": (ChannelTests,),
    "notify check": (ProblemsSent,),
    "notify summary": (ProblemsSent,),
    "schema show": (Page[TableOverview], TableDescriptions),
    "schema diagram": (SchemaDiagram,),
    "schema diff": (SchemaDiff,),
    "search": (Page[dict[str, Any]], search.SearchCount, search.SearchPlan, RowDetail),
    "search all": (AllTablesResult,),
    "search semantic": (Page[dict[str, Any]],),
    "search index status": (Page[IndexStatus],),
    "search index check": (Findings,),
    "search index build": (IndexChangeResult, DryRunResult),
    "search index repair": (IndexChangeResult, DryRunResult),
    "search index drop": (IndexChangeResult, DryRunResult),
    "search vectors store": (VectorStored, DryRunResult),
    "search vectors make": (MakeVectorsResult, DryRunResult),
    "data rows": (Page[dict[str, Any]],),
    "data show": (dict[str, Any], ContentWriteResult),
    "data add": (RowAddResult, DryRunResult),
    "data set": (RowChangeResult, RowsChangeResult, DryRunResult),
    "data delete": (RowDeleteResult, RowsDeleteResult, DryRunResult),
    "data query": (QueryResult,),
    "data diff": (DataDiff,),
    "data export": (ExportResult,),
    "data import": (ImportResult, DryRunResult),
    "help": (HelpText,),
    "transfer plan": (TransferPlan,),
    "transfer run": (TransferResult, DryRunResult),
    "transfer verify": (TransferVerification,),
    "transfer switch": (SwitchResult, UnlockResult, DryRunResult),
    "man install": (man.PagesInstalled,),
    "man show": (man.ManPage,),
    "completions show": (completions.Script,),
    "completions install": (completions.Installed,),
}

#: Names of schemas that are not those of commands: every command on a fleet has the same.
OTHER_ANSWERS: Mapping[str, tuple[Any, ...]] = {"fleet": (FleetResult,)}

ERROR = {
    "type": "object",
    "required": ["code", "message", "hint"],
    "properties": {"code": {"enum": []}, "message": {"type": "string"}, "hint": {"type": "string"}},
    "additionalProperties": False,
}


def build_schemas() -> dict[str, Any]:
    """Return the JSON Schema of every answer in its envelope, by the name in its ``schema`` field."""
    if missing := sorted(set(list_commands()) - set(ANSWERS)):
        sys.exit(
            f"Add the result types of these commands to ANSWERS of tools/reference.py: {', '.join(missing)}"
        )
    if unknown := sorted(set(ANSWERS) - set(list_commands())):
        sys.exit(f"Remove these commands from ANSWERS of tools/reference.py: {', '.join(unknown)}")
    types_by_name = {**ANSWERS, **OTHER_ANSWERS}
    types = [type_ for types in types_by_name.values() for type_ in types] + [Effect]
    definitions, components = msgspec.json.schema_components(
        types, schema_hook=_any_schema, ref_template="#/$defs/{name}"
    )
    schema_by_type = dict(zip(map(str, types), definitions, strict=True))
    changes = {
        definition["$ref"].rpartition("/")[2]
        for type_, definition in zip(types, definitions, strict=True)
        if isinstance(type_, type) and issubclass(type_, ChangeResult)
    }
    components = {
        name: _rendered_schema(part, name, is_change=name in changes) for name, part in components.items()
    }
    for kind in types:
        summary = getattr(kind, "summary", None)
        if isinstance(kind, type) and summary and summary.__annotations__["return"] == "Sequence[Row]":
            components[kind.__name__]["x-rows"] = True  # tables and templates have the rows of its summary
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
                "data": {"anyOf": [*(schema_by_type[str(type_)] for type_ in types), {"type": "null"}]},
                "warnings": {"type": "array", "items": {"type": "string"}},
                "error": {"anyOf": [{"$ref": "#/$defs/error"}, {"type": "null"}]},
            },
        }
        for command, types in types_by_name.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Answers of dbctl with -o json, each under its name",
        "answers": answers,
        "$defs": {**components, "error": error},
    }


def commands_page() -> str:
    """Return a page with the help of every command."""
    sections = ["# Commands\n\nGenerated from the program: `dbctl COMMAND --help` prints the same.\n"]
    for words, text in command_helps():
        sections.append(f"## dbctl {words}\n\n```text\n{text}```\n" if words else f"```text\n{text}```\n")
    return "\n".join(sections)


@cache
def command_helps() -> Sequence[tuple[str, str]]:
    """Return the path and the help of every command, starting with the root."""
    root = add_common_options(get_group(app))
    context = root.make_context("dbctl", [], resilient_parsing=True, max_content_width=WIDTH)
    return tuple(_helps(root, context, ""))


def list_commands() -> dict[str, str]:
    """Return the path and the help of every command that is not a group."""
    return {words: text for words, text in command_helps() if words and "Commands:" not in text}


def errors_page() -> str:
    """Return a page with every error, by exit status."""
    lines = [
        "# Errors and exit codes\n",
        "Generated from `dbctl/errors/`. The JSON object contains the code as `error.code`.\n",
        "| exit | code | message | hint |",
        "| --- | --- | --- | --- |",
    ]
    errors_ = sorted(load_registry().values(), key=lambda error: (error.exit_status, error.code))
    for error in errors_:
        status = f"{int(error.exit_status)} {Exit(error.exit_status).name.lower().replace('_', '-')}"
        if error is StoppedError:
            status = "128 + signal"
        message, hint = (text.replace("|", "\\|") for text in (error.sentence, error.remedy))
        lines.append(f"| {status} | `{error.code}` | {message} | {hint} |")
    return "\n".join(lines) + "\n"


def lint_page() -> str:
    """Return a page with the rules of ``migrate lint``."""
    lines = [
        "# Rules of migrate lint\n",
        "Generated from `dbctl/services/migrations/lint_rules.py`. A line `-- dbctl: allow CODE` above a statement, or at the",
        "top of a file, suppresses a finding; `unusable`, a file that cannot run, is always reported.\n",
        "| severity | code | action |",
        "| --- | --- | --- |",
    ]
    order = list(get_args(Severity))[::-1]
    for code, rule in sorted(LINT_RULES.items(), key=lambda item: (order.index(item[1].severity), item[0])):
        lines.append(f"| {rule.severity} | `{code}` | {rule.hint} |")
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


def _any_schema(kind: type) -> dict[str, Any]:
    """Return the schema of types that msgspec does not support: paths are strings, others any value."""
    return {"type": "string"} if issubclass(kind, Path) else {"description": "Any value."}


def _rendered_schema(schema: dict[str, Any], name: str, *, is_change: bool) -> dict[str, Any]:
    """Return the schema of a struct as it is written: with derived fields, and extra columns as fields."""
    rendered = {**schema, "properties": dict(schema.get("properties", {}))}
    is_page = set(Page.__struct_fields__) <= set(rendered["properties"])
    derived: dict[str, Any] = {"has_more": {"type": "boolean"}} if is_page else {}
    if is_change:
        derived["effect"] = {"anyOf": [{"$ref": "#/$defs/Effect"}, {"type": "null"}]}
    if is_page:  # fields for drawing are not written
        rendered["properties"] = {
            key: property_schema
            for key, property_schema in rendered["properties"].items()
            if key not in {"column_names", "empty_message", "omitted_columns", "next_key"}
        }
    derived |= {"digest": {"type": "string"}} if name == Plan.__name__ else {}
    rendered["properties"] |= derived
    rendered["properties"].pop("extra", None)
    # Every field is written, including those with a default.
    rendered["required"] = list(rendered["properties"])
    for property_schema in rendered["properties"].values():
        property_schema.pop("default", None)
    text = json.dumps(rendered).replace(
        '"type": "string", "format": "duration"', '"type": "number"'
    )  # seconds
    return dict(json.loads(text))


def metrics_page() -> str:
    """Return a page with every metric, its labels and its meaning."""
    lines = [
        "# Metrics\n",
        "Generated from `dbctl/services/metrics/families.py`. `dbctl metrics` exports these gauges; their names, labels and units are stable. `_bytes` and `_seconds` are units,",
        "and a time (`_timestamp_seconds`) is the number of seconds since 1970-01-01 UTC. A value that is unknown, or does not apply to an app, is absent.\n",
        "| metric | labels | meaning |",
        "| --- | --- | --- |",
    ]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{PREFIX}{family.name}` | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the schemas and all pages."""
    SCHEMAS.write_text(json.dumps(build_schemas(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "commands.md").write_text(commands_page(), encoding="utf-8")
    (PAGES / "errors.md").write_text(errors_page(), encoding="utf-8")
    (PAGES / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    (PAGES / "lint.md").write_text(lint_page(), encoding="utf-8")
    (PAGES / "findings.md").write_text(findings_page(), encoding="utf-8")
    (PAGES / "profile.md").write_text(profile_page(), encoding="utf-8")
    (PAGES / "configuration.md").write_text(configuration_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
