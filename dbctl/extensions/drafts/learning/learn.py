"""``profiles learn``: learn one action of an app from the states of its database before and after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from dbctl import signals
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import ProfileInvalidError
from dbctl.extensions import registry
from dbctl.extensions.drafts.draft import NAME, draft_profile
from dbctl.extensions.drafts.learning.changed_setting import name_setting
from dbctl.extensions.drafts.learning.faults import refuse_wrong, remove_noise
from dbctl.extensions.drafts.learning.profile_file import extend_profile, find_value, replace_profile
from dbctl.extensions.drafts.learning.recordings import (
    Action,
    Recording,
    Subject,
    create_folder,
    list_recordings,
    write_content,
)
from dbctl.extensions.drafts.learning.scene import LearnedKey, Lesson, Rule, Scene
from dbctl.extensions.drafts.learning.states import (
    OpenDatabases,
    State,
    StateOptions,
    open_state,
    require_same_database,
    store_state,
)
from dbctl.files import toml
from dbctl.model import ChangeResult, Effect, Row, Secret, Struct, now
from dbctl.profiles import loader
from dbctl.services.app.app import App
from dbctl.services.app.evidence.gather import gather_evidence
from dbctl.services.app.proofs import SETTING
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.checks.profile import find_inconsistencies
from dbctl.services.events.changes.records import TableChange
from dbctl.url import Url

#: Rows of one table that an action may change; more are no action of one user.
MOST_ROWS = 2_000
#: The value of ``--admin`` for an app without admins among its users.
NO_ADMINS = "none"


class LearnRequest(Struct, frozen=True, kw_only=True):
    """One demonstration, and the profile that it extends."""

    action: Action
    subject: Subject
    password: Secret | None = None  #: that was entered in the app
    pepper: Secret | None = None  #: the secret that the app appends to passwords; None: none is configured
    interface: str = ""  #: how the action was done
    #: files of the state before the action; empty: the database of the running app is read
    before: Sequence[Path] = ()
    after: Sequence[Path] = ()
    profile: Path  #: the file that is extended, or created
    users: str = ""  #: of a new profile: the table of users; empty: the one that looks most like it
    admin: str = ""  #: the decision which role admins have; ``none``: the app has no admins among its users
    server: Url | None = None  #: where dumps of servers are loaded
    timeout: float
    create_keys: Callable[[App], DecryptionKeys] | None = None  #: that decrypt ``before`` and ``after``


class LearnedLine(Struct, frozen=True, kw_only=True):
    """A key of the profile that a demonstration set."""

    key: str
    value: object  #: None: removed
    replaced: object  #: the earlier value that the new one contradicts; None: it contradicts none
    unchanged: bool  #: whether the profile, or its draft, had the value, and only the evidence is new
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
            "unchanged": sum(line.unchanged for line in self.lines),
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
    options = StateOptions(
        profile=request.profile if request.profile.exists() else None,
        server=request.server,
        timeout=request.timeout,
        in_place=True,
        create_keys=request.create_keys,
    )
    with open_state(request.before, options) as before, open_state(request.after, options) as after:
        text = read_profile(request, before, origin=", ".join(map(str, request.before)))
        return learn_difference(request, before, after, text=text)


def learn_difference(
    request: LearnRequest,
    before: State,
    after: OpenDatabases,
    *,
    text: str,
    control: Sequence[TableChange] = (),
) -> Learned:
    """Explain what differs between two states, and extend the profile; raises as ``learn``.

    ``text`` is that of a profile that does not exist yet, from ``read_profile``; ``control`` is what the app changed without an action.
    """
    original = toml.read_text(request.profile) if request.profile.exists() else None
    text = text if original is None else original  # the admin may have edited it during the action
    require_same_database(before, after)
    changes = list(read_changes(before, after))
    recordings = [stored.recording for stored in list_recordings(request.profile)]
    scene = Scene(
        action=request.action,
        interface=request.interface,
        subject=request.subject,
        password=request.password,
        pepper=request.pepper,
        changes=changes,
        earlier=[recording for recording in recordings if recording.action == request.action],
        learned={recording.action for recording in recordings},
        before=before.databases,
        after=after.databases,
        evidence={
            name: gather_evidence(db, before.urls[name].engine) for name, db in before.databases.items()
        },
        profile=parse_profile(request.profile, text),
    )
    scene, noise = remove_noise(scene, control)
    refuse_wrong(scene)
    if any(recording.changes == scene.changes for recording in scene.earlier):
        # counting it twice would be evidence that nothing showed
        raise scene.create_error("it is recorded already", "Show the action again in the app.")
    lesson = _decide_admin(request, list_rules()[request.action](scene).learn())
    extended = extend_profile(text, lesson)
    _require_consistent(request.profile, extended)
    subject = request.subject
    if request.action == SETTING:
        subject, remark = name_setting(scene, extended, before, after, timeout=request.timeout)
        lesson = structs.replace(lesson, notes=[*lesson.notes, *([remark] if remark else [])])
    recording = Recording(
        action=request.action,
        subject=subject,
        interface=request.interface,
        recorded_at=now(),
        changes=scene.changes,
        unrelated=lesson.unrelated,
    )
    before.require_complete()
    folder = _write(request.profile, original, extended, before, recording)
    own = [change for change in scene.changes if change.table not in lesson.unrelated]
    return Learned(
        action=request.action,
        profile=str(request.profile),
        created=original is None,
        recording=str(folder),
        tables=[change.table for change in own],
        rows=sum(change.rows for change in own),
        lines=_describe_lines(request.profile, lesson, text, extended),
        decisions=[f"{decision.topic}: {decision.text}" for decision in lesson.decisions],
        unrelated=[*noise, *(f"{place}: {reason}" for place, reason in lesson.unrelated.items())],
        learned_notes=lesson.notes,
    )


def _decide_admin(request: LearnRequest, lesson: Lesson) -> Lesson:
    """Return a lesson with the admin's decision which role admins have, which no demonstration of another user shows."""
    if not request.admin:
        return lesson
    value = False if request.admin == NO_ADMINS else request.admin
    decided = LearnedKey(path=("users", "admin"), value=value, evidence="decided with --admin")
    keys = [*(key for key in lesson.keys if key.path != decided.path), decided]
    decisions = [decision for decision in lesson.decisions if decision.topic != "admin"]
    return structs.replace(lesson, keys=keys, decided=[*lesson.decided, "admin"], decisions=decisions)


def read_changes(before: OpenDatabases, after: OpenDatabases) -> Iterator[TableChange]:
    """Yield what differs between two states; raises as ``Extension.read_changes``."""
    hint = "Install all of dbctl."
    read: Callable[..., Iterator[TableChange]] = registry.require("read_changes", "comparing rows", hint)
    for name, db in before.databases.items():
        yield from read(db, after.databases[name], name, limit=MOST_ROWS, private=True)


def read_profile(request: LearnRequest, before: State, *, origin: str) -> str:
    """Return the text of the profile, or a draft from ``origin`` if there is none."""
    if request.profile.exists():
        return toml.read_text(request.profile)
    name = request.profile.stem if NAME.fullmatch(request.profile.stem) else "app"
    main = next(iter(before.urls.values()))
    return draft_profile(main, name=name, users=request.users, timeout=request.timeout, origin=origin).profile


def parse_profile(path: Path, text: str) -> Any:
    """Return the profile with this text.

    Raises:
        ProfileInvalidError: it is invalid.
    """
    try:
        return loader.parse(text)
    except toml.TomlError as error:
        first = error.problems[0]
        raise ProfileInvalidError(file=path, line=first.line, key=first.key, reason=first.reason) from error


def _require_consistent(path: Path, text: str) -> None:
    """Check the extended profile, so that no invalid one is written."""
    for key, reason in find_inconsistencies(parse_profile(path, text)):
        problem = toml.create_problem(text, key, reason)
        raise ProfileInvalidError(file=path, line=problem.line, key=problem.key, reason=problem.reason)


def _write(path: Path, original: str | None, text: str, before: State, recording: Recording) -> Path:
    """Write the recording, and then the profile; after an error or a signal, neither is there."""
    if not path.parent.is_dir():
        raise FileFailedError(path=path, reason="its folder does not exist")
    folder = create_folder(path, recording.action)
    try:
        store_state(before, folder, profile=loader.parse(text).name)
        write_content(folder, recording)
        with signals.block_signals():
            replace_profile(path, original, text)
            signals.commit_point()
    except BaseException:  # also a signal: there must be no recording that the profile does not have
        with signals.block_signals():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other recordings are in it
                folder.parent.rmdir()
        raise
    return folder


def _describe_lines(path: Path, lesson: Lesson, text: str, extended: str) -> list[LearnedLine]:
    """Return the keys of a lesson; profiles are compared as they are read, without keys that have their default."""
    written, earlier, later = (
        toml.loads(text),
        *(msgspec.to_builtins(parse_profile(path, profile)) for profile in (text, extended)),
    )
    lines = list[LearnedLine]()
    for key in lesson.keys:
        before, after = (find_value(profile, key.path) for profile in (earlier, later))
        # a list to which a demonstration adds entries is not contradicted
        is_extended = isinstance(before, list) and isinstance(after, list) and all(i in after for i in before)
        lines.append(
            LearnedLine(
                key=".".join(key.path),
                value=key.value,
                replaced=None if before == after or is_extended else find_value(written, key.path),
                unchanged=before == after,
                evidence=key.evidence,
            )
        )
    return lines


def list_rules() -> Mapping[Action, Callable[[Scene], Rule]]:
    """Return what explains the rows of each action."""
    from dbctl.extensions.drafts.learning.rules import (
        deletion,
        new_users,
        passwords,
        roles,
        second_factors,
        settings,
        sign_ins,
        states,
        tokens,
    )

    return {
        "create-user": new_users.UserCreationRule,
        "create-admin": new_users.AdminCreationRule,
        "activate": states.ActivityRule,
        "deactivate": states.ActivityRule,
        "change-setting": settings.SettingRule,
        "set-role": roles.RoleRule,
        "delete-user": deletion.DeletionRule,
        "reset-2fa": second_factors.ResetRule,
        "set-password": passwords.PasswordRule,
        "sign-in": sign_ins.NewSignInRule,
        "sign-out": sign_ins.SignOutRule,
        "create-token": tokens.TokenRule,
    }
