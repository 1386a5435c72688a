"""Incremental backups whose bases, differences, manifests or signatures were damaged, replaced or forged."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest
from msgspec import structs

from dbctl.services.backup import manifest as backup_manifest
from dbctl.stores.base import VERIFICATION
from tests.crash.figures import choose_count, create_rng
from tests.services import larder_app
from tests.services.backup.test_increments import ROWS, change, create, make_incremental, read_delta


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Provide an app on SQLite with uncompressed incremental backups."""
    with larder_app.open_pantry("sqlite", tmp_path / "app") as app:
        app.run("create table much (id int primary key, text varchar(200))")
        values = ", ".join(f"({number}, '{number * 7919:0150}')" for number in range(ROWS))
        app.run(f"insert into much values {values}")
        make_incremental(app.folder, monkeypatch, 'compress = "none"')
        yield app


@pytest.fixture
def chain(app, answer):
    """Provide the app, its base, and a difference from it."""
    base = create(answer)
    change(app)
    return app, base, create(answer)


def find_folder(app, backup):
    return app.folder / "backups" / "larder" / backup["id"]


def find_file(app, backup):
    return find_folder(app, backup) / backup["members"][0]["file"]


def find_signature(app):
    (path,) = (app.folder / "state" / "signatures").iterdir()
    return path


def edit_manifest(app, backup, *, delta=None, member=None, **fields):
    """Change the manifest of a backup, with a right checksum; ``delta`` and ``member`` are fields of its only member."""
    path = find_folder(app, backup) / "manifest.json"
    manifest = backup_manifest.parse(path.read_bytes())
    (old,) = manifest.members
    new = structs.replace(old, **(member or {}))
    if delta:
        new = structs.replace(new, delta=structs.replace(new.delta, **delta))
    path.write_text(backup_manifest.serialize(structs.replace(manifest, members=[new], **fields)))


def replace_delta(app, backup, content):
    """Replace the file of a difference, with a right checksum."""
    find_file(app, backup).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    edit_manifest(app, backup, member={"bytes": len(content), "sha256": sha256})


def list_codes(answer, *words):
    findings = answer("backup", "verify", *words, status=None)["data"]["findings"]
    return {finding["code"] for finding in findings if finding["severity"] == "error"}


def assert_refused(app, answer, backup):
    """Assert that a backup is not restored, and that nothing of it remains."""
    before, entries = app.content(), list_entries(app)
    result = answer("restore", "apply", backup["id"], "--yes", status=None)
    assert not result["ok"]
    assert result["error"]["code"] != "internal", result
    assert app.content() == before
    assert list_entries(app) == entries
    return result["error"]


def list_entries(app):
    """Return the files of the app and of its repository, without records of verifications and locks."""
    return {
        str(entry.relative_to(app.folder))
        for entry in app.folder.rglob("*")
        if entry.name != VERIFICATION
        and not entry.name.endswith("dbctl-lock")
        and "state" not in entry.relative_to(app.folder).parts
    }


# Flipped bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", ["base", "difference"])
def test_flipped_byte_of_file_is_found(chain, answer, damaged):
    app, base, backup = chain
    path, rng = find_file(app, base if damaged == "base" else backup), create_rng(f"flip {damaged}")
    original = path.read_bytes()
    for _ in range(choose_count(3, 1000)):
        content = bytearray(original)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        assert list_codes(answer, backup["id"])
        assert list_codes(answer, backup["id"], "--deep")
        assert_refused(app, answer, backup)
    path.write_bytes(original)
    assert not list_codes(answer, "--deep")


@pytest.mark.parametrize("damaged", ["base", "difference"])
def test_flipped_byte_of_manifest_is_found(chain, answer, damaged):
    app, base, backup = chain
    path = find_folder(app, base if damaged == "base" else backup) / "manifest.json"
    original, rng = path.read_bytes(), create_rng(f"flip manifest {damaged}")
    for _ in range(choose_count(3, 1000)):
        content = bytearray(original)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        assert list_codes(answer)
        assert_refused(app, answer, backup)
        for words in (["prune", "--keep-last", "1"], ["delete", base["id"], "--with-dependents"]):
            result = answer("backup", *words, "--yes", status=None)
            assert result["exit_code"] != 0, result
            assert find_file(app, base).exists()
    path.write_bytes(original)
    assert not list_codes(answer, "--deep")


def test_damaged_base_makes_next_backup_full(chain, answer):
    app, base, _ = chain
    path = find_file(app, base)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    created = create(answer)
    assert read_delta(created) is None
    assert any("does not match the manifest" in remark for remark in created["remarks"]), created
    assert not list_codes(answer, created["id"], "--deep")


@pytest.mark.parametrize("kind", ["flipped", "truncated", "empty", "missing"])
def test_damaged_signature_makes_next_backup_full(chain, answer, kind):
    app, _, _ = chain
    path, rng = find_signature(app), create_rng("signature")
    original = path.read_bytes()
    for _ in range(choose_count(1, 300) if kind == "flipped" else 1):
        content = bytearray(original)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.unlink(missing_ok=True)
        if kind != "missing":
            path.write_bytes({"flipped": content, "truncated": original[:-1], "empty": b""}[kind])
        app.run("update much set text = text || '!' where id = 3")
        created = create(answer)
        assert read_delta(created) is None
        assert any("has no signature of" in remark for remark in created["remarks"]), created
        assert not list_codes(answer, created["id"], "--deep")
        path, original = find_signature(app), find_signature(app).read_bytes()


def forge_signature(app, content):
    """Replace the signature of the base with another one under a name that matches it."""
    path = find_signature(app)
    path.unlink()
    name = path.name.rpartition("-")[0] + "-" + hashlib.sha256(content).hexdigest()
    path.with_name(name).write_bytes(content)


@pytest.mark.parametrize("kind", ["another file", "rubbish", "empty"])
def test_forged_signature_makes_next_backup_full(chain, answer, kind):
    app, _, _ = chain
    signature = {"rubbish": b"rubbish" * 100, "empty": b""}.get(kind)
    if signature is None:
        # the same blocks in another order: its difference copies the wrong ones
        words = find_file(app, {**chain[1]}).read_bytes()
        other = app.folder / "other"
        other.write_bytes(words[len(words) // 2 :] + words[: len(words) // 2])
        signature = subprocess.run(
            ["rdiff", "--block-size", "4096", "signature", other], capture_output=True, check=True
        ).stdout
        other.unlink()
    forge_signature(app, signature)
    change(app, 3)
    created = create(answer)
    assert read_delta(created) is None
    assert any("cannot be used" in remark for remark in created["remarks"]), created
    assert [entry.name for entry in find_folder(app, created).iterdir() if "delta" in entry.name] == []
    assert not list_codes(answer, created["id"], "--deep")


# Forged manifests and differences ---------------------------------------------------------------------------------


def test_forged_id_of_base_is_refused(chain, answer):
    app, base, backup = chain
    for name in ("../x", "/etc", "", ".", f"{base['id']}/..", f"{base['id']}\n", "latest", f"x{base['id']}"):
        path = find_folder(app, backup) / "manifest.json"
        original = path.read_bytes()
        edit_manifest(app, backup, delta={"backup": name})
        assert list_codes(answer) == {"manifest-unreadable"}
        assert_refused(app, answer, backup)
        path.write_bytes(original)


@pytest.mark.parametrize("forged", ["itself", "missing", "chain", "file", "hash", "encryption", "each other"])
def test_forged_base_is_refused(chain, answer, forged):
    app, base, backup = chain
    change(app, 2)
    third = create(answer)
    file = backup["members"][0]["file"]
    sha256 = backup["members"][0]["content_sha256"]
    if forged == "itself":
        edit_manifest(app, third, delta={"backup": third["id"], "file": third["members"][0]["file"]})
    elif forged == "missing":
        edit_manifest(app, third, delta={"backup": "20000101_000000"})
    elif forged == "chain":
        edit_manifest(app, third, delta={"backup": backup["id"], "file": file, "content_sha256": sha256})
    elif forged == "file":
        edit_manifest(app, third, delta={"file": "../manifest.json"})
    elif forged == "hash":
        edit_manifest(app, third, delta={"content_sha256": "0" * 64})
    elif forged == "encryption":
        edit_manifest(app, base, member={"encryption": "age"})
    else:
        edit_manifest(app, third, delta={"backup": backup["id"], "file": file, "content_sha256": sha256})
        edit_manifest(app, backup, delta={"backup": third["id"], "file": third["members"][0]["file"]})
    assert list_codes(answer, third["id"])
    assert list_codes(answer, third["id"], "--deep")
    error = assert_refused(app, answer, third)
    assert forged in ("missing", "encryption") or "requires the base" in error["message"], error
    # neither an endless loop nor a lost base
    for words in (
        ["copy", "--to", str(app.folder / "other")],
        ["delete", third["id"], "--with-dependents", "--yes"],
        ["prune", "--keep-last", "1", "--yes"],
    ):
        result = answer("backup", *words, status=None)
        assert result["exit_code"] in (0, 4, 6, 12), result
    assert find_file(app, base).exists()


def write_delta(*commands):
    """Return a difference with these commands: literal bytes, or the start and length of a copy."""
    parts = [bytes.fromhex("72730236")]
    for command in commands:
        if isinstance(command, bytes):
            parts.append(b"\x44" + len(command).to_bytes(8, "big") + command)
        else:
            parts.append(b"\x54" + command[0].to_bytes(8, "big") + command[1].to_bytes(8, "big"))
    return b"".join(parts)


@pytest.mark.parametrize("forged", ["bomb", "no end", "beyond", "empty", "rubbish", "other", "short"])
def test_forged_difference_is_refused(chain, answer, forged):
    app, base, backup = chain
    size = base["members"][0]["bytes"]
    content = {
        "bomb": write_delta(*[(0, size)] * 20_000) + b"\0",
        "no end": write_delta((0, size)),
        "beyond": write_delta((size, 1 << 40)) + b"\0",
        "empty": b"",
        "rubbish": b"rubbish" * 1000,
        "other": write_delta((0, size)) + b"\0",
        "short": write_delta(b"SQLite format 3\0") + b"\0",
    }[forged]
    replace_delta(app, backup, content)
    assert "corrupt" in list_codes(answer, backup["id"], "--deep")
    error = assert_refused(app, answer, backup)
    assert error["code"] == "backup-corrupt", error
    assert backup["members"][0]["file"] in error["message"]


@pytest.mark.parametrize("size", [0, 1, 1 << 53])
def test_forged_size_of_content_is_refused(chain, answer, size):
    app, _, backup = chain
    edit_manifest(app, backup, delta={"bytes": size})
    error = assert_refused(app, answer, backup)
    assert error["code"] in ("backup-corrupt", "insufficient-space"), error


def test_unknown_version_of_manifest_prevents_prune_and_delete(chain, answer):
    app, base, backup = chain
    path = find_folder(app, backup) / "manifest.json"
    texts = [(find_folder(app, item) / "manifest.json").read_text() for item in (base, backup)]
    assert [text[:26] for text in texts] == ['{"schema":"dbctl.backup/1"', '{"schema":"dbctl.backup/2"']
    create(answer, "--full")
    path.write_text(texts[1].replace("dbctl.backup/2", "dbctl.backup/3", 1))
    for words in (
        ["prune", "--keep-last", "1"],
        ["delete", base["id"]],
        ["delete", base["id"], "--with-dependents"],
    ):
        result = answer("backup", *words, "--yes", status=4)
        assert result["error"]["code"] == "repository-unreadable", result
        assert find_file(app, base).exists()
    findings = answer("backup", "verify", status=4)["data"]["findings"]
    assert [finding["code"] for finding in findings] == ["manifest-unreadable"]
    assert "newer version" in findings[0]["message"]
    assert_refused(app, answer, backup)


@pytest.mark.parametrize("kind", ["physical", "log"])
@pytest.mark.parametrize("number", [None, "-1", "first", "9" * 5000])
@pytest.mark.parametrize("is_of_member", [False, True])
def test_forged_part_of_a_log_is_reported(chain, answer, kind, number, is_of_member):
    app, _, backup = chain
    facts = {} if number is None else {"sequence": number}
    if is_of_member:
        edit_manifest(app, backup, member={"facts": facts, "form": kind})
    else:
        edit_manifest(app, backup, kind=kind, member={"facts": facts})
    assert list_codes(answer) == {"manifest-unreadable"}
    status = answer("backup", "status", status=None)["data"]
    assert list(status["repositories"][0]["unreadable"]) == [backup["id"]]


@pytest.mark.parametrize("form", ["kept", "passwords"])
def test_forged_form_without_its_fact_is_reported(chain, answer, form):
    app, _, backup = chain
    edit_manifest(app, backup, member={"form": form, "facts": {}})
    assert list_codes(answer) == {"manifest-unreadable"}
    assert answer("backup", "delete", backup["id"], "--yes", status=4)["error"]["code"] == "backup-corrupt"


@pytest.mark.parametrize("fact", ["recoverable_since", "restored_at"])
@pytest.mark.parametrize("time", ["", "now", "2026-11-19T02:00:00", "0001-01-01T00:00:00Z"])
def test_forged_time_of_a_log_is_reported(chain, answer, fact, time):
    app, _, backup = chain
    edit_manifest(app, backup, member={"form": "log", "facts": {"sequence": "1", fact: time}})
    assert list_codes(answer) == {"manifest-unreadable"}
    answer("backup", "status", status=None)


# Bases that are lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["folder", "file", "manifest", "replaced"])
def test_lost_base_is_named(chain, answer, lost):
    app, base, backup = chain
    if lost == "folder":
        shutil.rmtree(find_folder(app, base))
    elif lost == "file":
        find_file(app, base).unlink()
    elif lost == "manifest":
        (find_folder(app, base) / "manifest.json").unlink()
    else:
        change(app, 9)
        other = create(answer, "--full")
        shutil.copy(find_file(app, other), find_file(app, base))
    assert list_codes(answer, backup["id"])
    assert list_codes(answer, backup["id"], "--deep")
    error = assert_refused(app, answer, backup)
    assert base["id"] in error["message"], error
    answer("backup", "status", status=None)
    copied = answer("backup", "copy", "--to", str(app.folder / "other"), status=None)
    copies = app.folder / "other" / "larder"
    names = {entry.name for entry in copies.iterdir()} if copies.is_dir() else set()
    assert not {base["id"], backup["id"]} & names, copied
    created = create(answer)
    assert not list_codes(answer, created["id"], "--deep")
