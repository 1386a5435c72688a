"""Dumps of servers that were cut anywhere, with a manifest that agrees: never called sound, never brought in."""

from __future__ import annotations

import gzip

import pytest

from dbctl.config import Selection
from dbctl.errors import BackupUnsoundError
from dbctl.services.app import app as apps
from dbctl.services.backup.create import Creation
from dbctl.services.backup.repository import Repository
from tests.crash.figures import chance, figure
from tests.services import larder_app, promptvault_app
from tests.services.backup.test_compression import resealed
from tests.services.flashpoint_app import caught

#: Each kind of dump, and whether the cut is in what it unpacks to; gzip itself tells of the other cuts.
DUMPS = [("postgresql", "custom", False), ("postgresql", "plain", True), ("mysql", "", True)]


@pytest.fixture(params=DUMPS, ids=lambda one: " ".join(map(str, one)).strip())
def dumped(request, tmp_path):
    place, form, inside = request.param
    with larder_app.settled(place, tmp_path / "app") as pantry:
        with apps.opened(Selection(config=str(pantry.path.with_name("dbctl.toml"))), timeout=5) as app:
            made = Creation(app, Repository(app), timeout=5, form=form).apply()
        yield pantry, made, inside


def test_a_cut_dump_is_never_called_sound_and_never_brought_in(dumped):
    pantry, made, inside = dumped
    file = promptvault_app.file_of(pantry.path, made)
    whole = gzip.decompress(file.read_bytes()) if inside else file.read_bytes()
    held = pantry.content()
    draw = chance(f"cuts {made.members[0].engine}")
    for share in draw.sample(range(100), figure(2, 100)):
        text = whole[: len(whole) * share // 100]
        resealed(pantry.path, made, gzip.compress(text, 1) if inside else text)
        found = promptvault_app.codes(promptvault_app.verified(pantry.path, made.id))
        assert found, f"cut at {share} %"
        error = caught(BackupUnsoundError, lambda: promptvault_app.apply(pantry.path, made.id))
        assert made.id in str(error)
    assert pantry.content() == held
    assert pantry.databases() in ([pantry.own.path], {pantry.own.path: True})  # no trial is left
    resealed(pantry.path, made, gzip.compress(whole, 1) if inside else whole)
    assert promptvault_app.codes(promptvault_app.verified(pantry.path, made.id)) == []
