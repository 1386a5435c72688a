"""Edit a file of the configuration in an editor: the file is replaced only by a valid one."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl import signals
from dbctl.config import loader as config
from dbctl.config.environment import editor_command
from dbctl.config.sections import Selection, read_sections
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError, report_file_errors
from dbctl.errors.usage import ConfigChangedError, ConfigInvalidError, EditorFailedError
from dbctl.files import temp, toml
from dbctl.files.atomic import MAX_SETTINGS_BYTES, read_whole, write_atomically, write_blocks
from dbctl.model import ChangeResult, Effect
from dbctl.profiles import loader

PREFIX = "dbctl-edit-"
DEFAULT_EDITORS = ("sensible-editor", "vi", "nano")

#: Shows the problems of the edited file, and returns whether the user edits it again.
AskAgain = Callable[[Sequence[toml.Problem]], bool]


class ConfigEdited(ChangeResult, frozen=True, kw_only=True):
    """Result of ``config edit``."""

    file: str
    changed: bool
    apps: Sequence[str]  #: of the whole configuration

    @property
    def effect(self) -> Effect | None:
        return Effect("changed", "file", [self.file]) if self.changed else None


def select_file(selection: Selection) -> tuple[Path, Path]:
    """Return the main file of the configuration, and the file to edit: that of the selected app, or the main file.

    Raises:
        ConfigMissingError: there is no configuration.
        ConfigInvalidError: an app is selected, but the files that may define it have errors.
        AppMissingError: the selected app is not configured.
    """
    main = config.config_path(selection)
    if not selection.app:
        return main, main
    sections, name = config.load_sections(selection), selection.app.partition("/")[0]
    if name not in sections.apps:
        raise config.app_missing_error(name, main, list(sections.apps))
    return main, sections.origins["apps", name].path


def find_editor(*, on_terminal: bool) -> Sequence[str]:
    """Return the command of the editor: VISUAL or EDITOR, as a shell splits it, or on a terminal an installed one.

    Raises:
        EditorFailedError: none is set, or its text is no command.
    """
    import shutil

    try:
        words = shlex.split(editor_command())
    except ValueError as error:
        raise EditorFailedError(editor="VISUAL or EDITOR", reason=str(error).lower()) from error
    if words:
        return words
    installed = [name for name in DEFAULT_EDITORS if shutil.which(name)] if on_terminal else []
    if not installed:
        raise EditorFailedError(editor="no editor", reason="neither VISUAL nor EDITOR is set")
    return installed[:1]


def edit_configuration(main: Path, file: Path, editor: Sequence[str], ask_again: AskAgain) -> ConfigEdited:
    """Open an editor on a copy of ``file``, and replace the file if the configuration is valid with it.

    Mode and owner of the file remain. Variables and secrets are not read, so that they may be unset here.

    Args:
        main: the main file of the configuration.
        file: one of its files.
        editor: the command; the path of the copy is appended. It must not end before the file is complete.
        ask_again: called with the problems of an invalid file.

    Raises:
        ConfigInvalidError: the edited file is invalid, and the user does not edit it again.
        ConfigChangedError: another process changed the file.
        EditorFailedError: the editor cannot be started, or failed.
        FileMissingError, FileFailedError: the file cannot be read or replaced.
    """
    original = _read(file)
    _require_writable(file)
    with temp.folder(Path(tempfile.gettempdir()), PREFIX) as folder:
        copy = folder / file.name
        write_blocks(copy, [original])
        while True:
            _run_editor(editor, copy)
            content = _read(copy)
            apps, problems = _validate(main, {file: copy})
            if original.strip() and not content.strip():  # saved by mistake, or by an editor that failed
                problems = [
                    toml.Problem(1, "TOML", "the file is empty; delete it yourself if that is intended")
                ]
            if content == original or not problems:
                break
            if not ask_again(problems):
                first = problems[0]
                raise ConfigInvalidError(
                    file=first.file or file, line=first.line, key=first.key, reason=first.reason
                )
    if content != original:
        if _read(file) != original:
            rejected = file.with_name(f"{file.name}.rejected")
            _write(rejected, content)
            raise ConfigChangedError(file=file, rejected=rejected)
        _write(file, content)
    return ConfigEdited(file=str(file), changed=content != original, apps=apps)


def _read(file: Path) -> bytes:
    with report_file_errors(file, kind="configuration"):
        return read_whole(file, MAX_SETTINGS_BYTES, is_named=True)


def _write(file: Path, content: bytes) -> None:
    with write_atomically(file, replace=True) as out:
        out.write(content.decode("utf-8", "surrogateescape"))


def _require_writable(file: Path) -> None:
    """Refuse before the editor starts what would fail after it."""
    path = Path(os.path.realpath(file))
    status = path.stat()
    if os.geteuid() not in (0, status.st_uid):
        raise FileFailedError(
            path=file, reason="it belongs to another user, who would lose it; edit it as this user"
        )
    if not os.access(path.parent, os.W_OK):
        raise FileFailedError(path=file, reason=f"{path.parent} is not writable")


def _run_editor(editor: Sequence[str], copy: Path) -> None:
    # The terminal sends Ctrl-C to the editor and to dbctl. A handler, unlike SIG_IGN, is not inherited by the editor.
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with signals.defer_signals():  # a signal between the start and its record would leave the editor open
            process = subprocess.Popen([*editor, str(copy)])  # noqa: S603 - the editor of the user
        try:
            signals.raise_if_interrupted()
            status = process.wait()
        except BaseException:  # also on a signal
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait()
            raise
    except (OSError, ValueError) as error:
        raise EditorFailedError(
            editor=editor[0], reason=getattr(error, "strerror", "") or str(error)
        ) from error
    finally:
        signal.signal(signal.SIGINT, previous)
    if status:
        raise EditorFailedError(editor=editor[0], reason=f"it ended with status {status}")


def _validate(main: Path, copies: Mapping[Path, Path]) -> tuple[list[str], Sequence[toml.Problem]]:
    """Return the apps of a configuration, and its problems."""
    try:
        sections = read_sections(main, copies)
    except toml.TomlError as error:
        return [], error.problems
    problems = config.find_problems(sections)
    for name, app in sections.apps.items():
        profile = str(sections.folder / app.profile) if app.profile.endswith(".toml") else app.profile
        try:
            loader.load(profile)
        except DbctlError as error:
            source = sections.origins["apps", name]
            problem = toml.create_problem(source.text, ("apps", name, "profile"), str(error))
            problems.append(toml.Problem(problem.line, problem.key, problem.reason, source.path))
    return list(sections.apps), problems
