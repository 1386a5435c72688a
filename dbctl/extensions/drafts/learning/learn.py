"""``profiles learn``: learn one action of an app from the states of its database before and after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import ProfileInvalidError
from dbctl.extensions import registry
from dbctl.extensions.drafts.draft import NAME, draft_profile
from dbctl.extensions.drafts.learning.errors import DemonstrationEmptyError, DemonstrationWrongError
from dbctl.extensions.drafts.learning.lessons import find_rule
from dbctl.extensions.drafts.learning.profile_file import describe_decisions, extend_profile, find_value
from dbctl.extensions.drafts.learning.recordings import (
    Action,
    Recording,
    Subject,
    choose_folder,
    list_recordings,
    write_content,
)
from dbctl.extensions.drafts.learning.scene import Lesson, Scene
from dbctl.extensions.drafts.learning.states import (
    State,
    StateOptions,
    open_state,
    require_same_database,
    store_state,
)
from dbctl.files import toml
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Row, Secret, Struct, now
from dbctl.profiles import loader
from dbctl.services.app.evidence.gather import gather_evidence
from dbctl.services.checks.profile import find_inconsistencies
from dbctl.services.events.changes.records import TableChange
from dbctl.url import Url

#: Rows of one table that an action may change; more are no action of one user.
MOST_ROWS = 2_000


class LearnRequest(Struct, frozen=True, kw_only=True):
    """One demonstration, and the profile that it extends."""

    action: Action
    subject: Subject
    password: Secret | None = None  #: that was entered in the app
    interface: str = ""  #: how the action was done
    before: Sequence[Path]  #: files of the state before the action
    after: Sequence[Path]
    profile: Path  #: the file that is extended, or created
    users: str = ""  #: of a new profile: the table of users; empty: the one that looks most like it
    server: Url | None = None  #: where dumps of servers are loaded
    timeout: float


class LearnedLine(Struct, frozen=True, kw_only=True):
    """A key of the profile that a demonstration set."""

    key: str
    value: object  #: None: removed
    replaced: object  #: the earlier value; None: the key is new
    evidence: str


class Learned(ChangeResult, frozen=True, kw_only=True):
    """Result of ``profiles learn``."""

    is_timed = True

    action: str
    profile: str  #: the file
    created: bool  #: whether the profile is new
    recording: str  #: the folder
    tables: Sequence[str]  #: tables with changed rows that belong to the action
    rows: int  #: their changed rows
    lines: Sequence[LearnedLine]
    decisions: Sequence[str]  #: what the demonstration leaves open
    unrelated: Sequence[str]  #: changes that do not belong to the action
    learned_notes: Sequence[str]

    @property
    def effect(self) -> Effect | None:
        counts = {
            "keys": len(self.lines),
            "replaced": sum(line.replaced is not None for line in self.lines),
            "decisions open": len(self.decisions),
        }
        return Effect("learned", "action", [self.action], place=f"for {self.profile}", counts=counts)

    def summary(self) -> Row:
        row: dict[str, object] = {
            "recording": self.recording,
            "changed rows": f"{self.rows} in {', '.join(self.tables)}",
            "keys": [
                {"key": line.key, "value": line.value, "evidence": line.evidence} for line in self.lines
            ],
            "contradicted": [
                {"key": line.key, "before": line.replaced, "after": line.value}
                for line in self.lines
                if line.replaced is not None
            ],
            "decisions": self.decisions,
            "unrelated": self.unrelated,
            "remarks": self.learned_notes,
        }
        return {name: value for name, value in row.items() if value}


def learn(request: LearnRequest) -> Learned:
    """Compare the states, explain the differences, record them, and extend the profile.

    Raises:
        DemonstrationEmptyError, DemonstrationWrongError, StatesUnrelatedError: the states do not show the action.
        ProfileInvalidError: the profile is invalid, or would be with what was learned. Nothing was written.
        NotSupportedError: the installation or the engine cannot compare rows.
        Others, as ``open_state`` and ``draft_profile``.
    """
    exists = request.profile.exists()
    options = StateOptions(
        profile=request.profile if exists else None, server=request.server, timeout=request.timeout
    )
    with open_state(request.before, options) as before, open_state(request.after, options) as after:
        require_same_database(before, after)
        changes = list(read_changes(before, after))
        if not changes:
            raise DemonstrationEmptyError
        refuse_mass_changes(request.action, changes)
        text = _read_profile(request, before)
        earlier = [
            stored.recording
            for stored in list_recordings(request.profile)
            if stored.recording.action == request.action
        ]
        scene = Scene(
            action=request.action,
            interface=request.interface,
            subject=request.subject,
            password=request.password,
            changes=changes,
            earlier=earlier,
            before=before.databases,
            after=after.databases,
            evidence={
                name: gather_evidence(db, before.urls[name].engine) for name, db in before.databases.items()
            },
            profile=_parse(request.profile, text),
        )
        lesson = find_rule(request.action)(scene)
        extended = extend_profile(text, lesson)
        _require_consistent(request.profile, extended)
        recording = Recording(
            action=request.action,
            subject=request.subject,
            interface=request.interface,
            recorded_at=now(),
            changes=changes,
            unrelated=lesson.unrelated,
        )
        folder = _write(request.profile, extended, before, recording, profile=scene.profile.name)
    return _create_result(request, lesson, recording, folder, text=text, created=not exists)


def read_changes(before: State, after: State) -> Iterator[TableChange]:
    """Yield what differs between two states; raises as ``Extension.read_changes``."""
    hint = "Install all of dbctl."
    read: Callable[..., Iterator[TableChange]] = registry.require("read_changes", "comparing rows", hint)
    for name, db in before.databases.items():
        yield from read(db, after.databases[name], name, limit=MOST_ROWS)


def refuse_mass_changes(action: Action, changes: Sequence[TableChange]) -> None:
    """Refuse changes of so many rows that they are not those of one action."""
    for change in changes:
        if change.images is None:
            raise DemonstrationWrongError(
                action=action,
                reason=f"in {change.table}, {change.reason}",
                hint="Pass the states directly before and after the action.",
            )


def _read_profile(request: LearnRequest, before: State) -> str:
    """Return the text of the profile, or a draft if there is none."""
    if request.profile.exists():
        return toml.read_text(request.profile)
    name = request.profile.stem if NAME.fullmatch(request.profile.stem) else "app"
    main = next(iter(before.urls.values()))
    origin = ", ".join(map(str, request.before))
    return draft_profile(main, name=name, users=request.users, timeout=request.timeout, origin=origin).profile


def _parse(path: Path, text: str) -> Any:
    try:
        return loader.parse(text)
    except toml.TomlError as error:
        first = error.problems[0]
        raise ProfileInvalidError(file=path, line=first.line, key=first.key, reason=first.reason) from error


def _require_consistent(path: Path, text: str) -> None:
    """Check the extended profile, so that no invalid one is written."""
    for key, reason in find_inconsistencies(_parse(path, text)):
        problem = toml.create_problem(text, key, reason)
        raise ProfileInvalidError(file=path, line=problem.line, key=problem.key, reason=problem.reason)


def _write(path: Path, text: str, before: State, recording: Recording, *, profile: str) -> Path:
    """Write the recording, and then the profile; after an error, neither is there."""
    if not path.parent.is_dir():
        raise FileFailedError(path=path, reason="its folder does not exist")
    folder = choose_folder(path, recording.action)
    store_state(before, folder, profile=profile)
    with remove_on_error(folder):
        write_content(folder, recording)
        with write_atomically(path, mode=0o644, replace=True) as file:
            file.write(text)
    return folder


@contextmanager
def remove_on_error(folder: Path) -> Iterator[None]:
    """Delete a folder if the block fails."""
    try:
        yield
    except (DbctlError, OSError):
        shutil.rmtree(folder)
        raise


def _create_result(
    request: LearnRequest, lesson: Lesson, recording: Recording, folder: Path, *, text: str, created: bool
) -> Learned:
    earlier = toml.loads(text)
    own = [change for change in recording.changes if change.table not in recording.unrelated]
    return Learned(
        action=request.action,
        profile=str(request.profile),
        created=created,
        recording=str(folder),
        tables=[change.table for change in own],
        rows=sum(change.rows for change in own),
        lines=[
            LearnedLine(
                key=".".join(key.path),
                value=key.value,
                replaced=None if (value := find_value(earlier, key.path)) == key.value else value,
                evidence=key.evidence,
            )
            for key in lesson.keys
        ],
        decisions=describe_decisions(lesson.decisions),
        unrelated=[f"{place}: {reason}" for place, reason in lesson.unrelated.items()],
        learned_notes=lesson.notes,
    )
