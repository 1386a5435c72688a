"""Record the changes of a command in the event store, and collect what is known about its end."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import typer
from msgspec import structs

from dbctl.cli._support.session import Session
from dbctl.errors.backup import RepositoryMissingError
from dbctl.errors.base import DbctlError
from dbctl.services.events.changes.records import Anchor, parse_anchor
from dbctl.services.events.runs import locate_journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dbctl.config.sections import Selection


def parse_anchors(text: str) -> Sequence[Anchor]:
    """Return the anchor of an option; ``-``: those in the text on standard input; empty: none.

    Raises:
        BadParameter: there is no anchor.
    """
    if not text:
        return []
    words = re.findall(r"[0-9]+:[0-9a-f:]+", sys.stdin.read()) if text == "-" else [text]
    anchors = [anchor for anchor in map(parse_anchor, words) if anchor]
    if not anchors:
        raise typer.BadParameter(f"{text!r} is no anchor: SEQUENCE:HASH:LOG", param_hint="'--anchor'")
    return anchors


def read_manifest_anchors(session: Session, folder: Path) -> tuple[Sequence[Anchor], Sequence[DbctlError]]:
    """Return the ends of the log in the manifests of the backups of all configured apps, and why some are not known."""
    selection, timeout = session.selection, session.options.timeout
    anchors, errors = list[Anchor](), list[DbctlError]()
    if not locate_journal(selection).config:
        return anchors, errors
    from dbctl.config import loader
    from dbctl.config.resolver import FleetSelection
    from dbctl.services.fleet.instances import list_instances

    try:
        apps = [FleetSelection(app) for app in loader.load(selection).apps.values() if app.backup]
        instances = list_instances(apps, timeout=timeout)
    except DbctlError as error:
        return anchors, [error]
    for instance in instances:
        configured = structs.replace(selection, app=instance.app, configured=instance.configure())
        try:
            anchors += _read_repository(configured, folder, timeout)
        except RepositoryMissingError:  # there is no backup yet, or `backup status` reports it
            pass
        except DbctlError as error:
            errors.append(error)
    return anchors, errors


def _read_repository(selection: Selection, folder: Path, timeout: float) -> Iterator[Anchor]:
    from dbctl.services.app.session import open_app
    from dbctl.services.backup.repository import Repository

    with open_app(selection, timeout=timeout) as app:
        for manifest in Repository(app).manifests()[0]:
            # Another machine, or another directory for state, has another log.
            if manifest.audit and (manifest.host, manifest.audit.folder) == (
                os.uname().nodename,
                str(folder),
            ):
                anchor = parse_anchor(manifest.audit.anchor)
                if anchor:
                    yield anchor
