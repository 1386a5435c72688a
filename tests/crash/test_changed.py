"""Backups whose files were changed since, in any way: every change is reported, and nothing is restored from them."""

from __future__ import annotations

import pytest

from dbctl.errors import BackupMissingError, BackupUnsoundError
from tests.crash.figures import chance, figure
from tests.services import flashpoint_app, promptvault_app
from tests.services.promptvault_app import file_of, folder_of

PAGE = 4096
FORMS = ("none", "gzip", "zstd")


def flipped(draw, text):
    place = draw.randrange(len(text))
    return text[:place] + bytes([text[place] ^ 1 << draw.randrange(8)]) + text[place + 1 :]


def cut(draw, text):
    return text[: draw.randrange(len(text))]


def zeroed(draw, text):
    place = draw.randrange(0, len(text), 512)
    return text[:place] + bytes(len(text[place : place + 512])) + text[place + 512 :]


def swapped(draw, text):
    one, two = sorted(draw.sample(range(max(2, len(text) // PAGE)), 2))
    pages = [text[at : at + PAGE] for at in range(0, len(text), PAGE)] + [b""]
    pages[one], pages[two] = pages[two], pages[one]
    return b"".join(pages)


def longer(draw, text):
    return text + draw.randbytes(draw.randrange(1, 100))


WAYS = (flipped, flipped, flipped, flipped, cut, zeroed, swapped, longer)


@pytest.fixture
def path(tmp_path):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, "pragma journal_mode = delete")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_change_is_reported_and_nothing_is_restored(path, form):
    made = promptvault_app.create(path, compress=form)
    promptvault_app.spoil(path)
    held, draw = path.read_bytes(), chance(f"changed {form}")
    files = [file_of(path, made), folder_of(path, made) / "manifest.json"]
    whole = {file: file.read_bytes() for file in files}
    found = changed = 0
    while changed < figure(100, 3400):
        file = files[draw.random() < 0.25]
        way = draw.choice(WAYS)
        file.write_bytes(text := way(draw, whole[file]))
        if text == whole[file]:
            continue  # such a page, or sector, looks like the other
        changed += 1
        wrong = promptvault_app.codes(promptvault_app.verified(path, deep=draw.random() < 0.05))
        found += bool(wrong)
        assert wrong, (file.name, way.__name__, f"change {changed}")
        with pytest.raises((BackupUnsoundError, BackupMissingError)):
            promptvault_app.apply(path, made.id)
        assert path.read_bytes() == held
        file.write_bytes(whole[file])
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    assert [one.id for one in promptvault_app.listed(path).page.items] == [
        made.id
    ]  # no restore came as far as to keep anything
    print(f"{found} of {changed} found")
