"""Commands that read, copy and delete backups that refer to the file of an earlier one, and forged references."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.cli.test_hostile import BOUND_BY_MODES
from tests.services.backup.test_increments import change, configure, create, small  # noqa: F401 - a fixture
from tests.services.backup.test_increments_commands import bucket, create_identity, replace_setting  # noqa: F401 - a fixture
from tests.services.backup.test_increments_hostile import (
    assert_refused,
    edit_manifest,
    find_file,
    find_folder,
    list_codes,
)
from tests.services.backup.test_unchanged import (
    find_member,
    find_stored,
    is_known,
    list_files,
    wait_until_old,
)
from tests.services.larder_app import PROFILE


@pytest.fixture
def app(small, answer):  # noqa: F811
    return small


@pytest.fixture
def pair(app, answer):
    """Provide the app, a backup, and a later one that refers to it."""
    base = create(answer)
    backup = create(answer)
    assert find_stored(backup) == base["id"]
    return app, base, backup


def list_ids(answer):
    return {backup["id"] for backup in answer("backup", "list")["data"]["items"]}


def test_reference_names_the_backup_in_every_report(pair, answer):
    _, base, backup = pair
    assert backup["effect"]["details"] == [f"pantry unchanged since {base['id']}"]
    note, _ = [item["note"] for item in answer("backup", "list")["data"]["items"]]
    assert note == f"pantry unchanged since {base['id']}"
    assert answer("backup", "show", base["id"])["data"]["dependents"] == [backup["id"]]
    (status,) = answer("backup", "status")["data"]["databases"]
    assert (status["unchanged_since"], status["bytes"]) == (base["id"], 0)


def test_full_and_safety_backups_never_refer(app, answer):
    create(answer)
    wait_until_old()
    create(answer)
    assert is_known(answer)
    assert not find_stored(create(answer, "--full"))
    assert not find_stored(create(answer, "--compress", "zstd"))
    result = answer("restore", "apply", "latest", "--yes")["data"]
    safety = answer("backup", "show", result["safety_backup"])["data"]
    assert not find_stored(safety)


def test_references_do_not_count_as_differences(app, answer):
    configure(app.folder, "max_dependents = 1")
    base = create(answer)
    assert [find_stored(create(answer)) for _ in range(3)] == [base["id"]] * 3
    change(app)
    difference = create(answer)
    assert find_member(difference)["delta"]["backup"] == base["id"]
    assert find_stored(create(answer)) == difference["id"]
    change(app, 2)
    assert find_member(create(answer))["delta"] is None


def test_prune_and_delete_keep_the_file_of_a_reference(pair, answer):
    app, base, backup = pair
    content = app.content()
    plan = answer("backup", "prune", "--keep-last", "1", "--yes")["data"]
    assert plan["deleted"] == []
    assert {item["id"]: item["reasons"][-1] for item in plan["retained"]}[
        base["id"]
    ] == "the base of 1 retained backup"
    change(app)
    other = create(answer, "--full")
    error = answer("backup", "delete", base["id"], "--yes", status=6)["error"]
    assert error["code"] == "backup-required"
    answer("backup", "pin", backup["id"], "--reason", "audit")
    answer("backup", "prune", "--keep-last", "1", "--yes")
    assert list_ids(answer) == {base["id"], backup["id"], other["id"]}
    answer("restore", "apply", backup["id"], "--yes")
    assert app.content() == content
    answer("backup", "unpin", backup["id"])
    deleted = answer("backup", "delete", base["id"], "--with-dependents", "--yes")["data"]["deleted"]
    assert set(deleted) == {base["id"], backup["id"]}


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_file_damages_references_and_gets_no_more(pair, answer, damage):
    app, base, backup = pair
    path = find_file(app, base)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[:-1])
    created = create(answer)  # of a database whose files are not known
    assert not find_stored(created)
    assert find_member(created)["delta"] is None
    assert list_codes(answer, backup["id"])
    assert list_codes(answer, "--deep")
    assert base["id"] in assert_refused(app, answer, backup)["message"]
    damaged = answer("backup", "status", status=None)["data"]["repositories"][0]["damaged"]
    assert set(damaged) == {base["id"], backup["id"]}
    assert not list_codes(answer, created["id"], "--deep")


def test_unreadable_manifest_of_base_does_not_end_verification(pair, answer):
    app, base, backup = pair
    sound = create(answer, "--full")
    path = find_folder(app, base) / "manifest.json"
    path.unlink()
    path.symlink_to("nowhere")
    findings = answer("backup", "verify", status=4)["data"]["findings"]
    reported = {line for line in (base["id"], backup["id"], sound["id"]) if line in str(findings)}
    assert reported == {base["id"], backup["id"]}
    damaged = answer("backup", "status", status=None)["data"]["repositories"][0]["damaged"]
    assert "does not exist" not in str(damaged[backup["id"]])


def run_bound_by_mode(app, folder, *words):
    """Run a command while a folder can only be searched, and not be listed."""
    folder.chmod(0o100)
    try:
        command = [*BOUND_BY_MODES, sys.executable, "-m", "dbctl", *words, "-o", "json"]
        process = subprocess.run(command, cwd=app.folder, capture_output=True, check=False)
    finally:
        folder.chmod(0o700)
    return json.loads(process.stdout)


def test_folder_that_cannot_be_listed_does_not_end_verification(pair, answer):
    app, base, backup = pair
    sound = create(answer, "--full")
    result = run_bound_by_mode(app, find_folder(app, base), "backup", "verify")
    findings = result["data"]["findings"]
    reported = {line for line in (base["id"], backup["id"], sound["id"]) if line in str(findings)}
    assert (result["exit_code"], reported) == (4, {base["id"], backup["id"]})


def test_folder_that_cannot_be_listed_is_damaged(pair, answer):
    app, base, backup = pair
    folder = find_folder(app, base)
    status = run_bound_by_mode(app, folder, "backup", "status")
    assert set(status["data"]["repositories"][0]["damaged"]) == {base["id"], backup["id"]}
    change(app)
    created = run_bound_by_mode(app, folder, "backup", "create")
    assert created["exit_code"] == 0, created
    pruned = run_bound_by_mode(app, folder, "backup", "prune", "--keep-last", "1", "--yes")
    assert pruned["data"]["deleted"] == []
    assert not list_codes(answer, "--deep")


def test_unreadable_manifest_of_the_file_of_a_reference_does_not_prevent_a_backup(pair, answer):
    app, base, _ = pair
    path = find_folder(app, base) / "manifest.json"
    path.unlink()
    path.symlink_to("nowhere")
    created = create(answer)
    assert not find_stored(created)
    assert not list_codes(answer, created["id"], "--deep")


def test_known_database_gets_a_copy_if_damage_was_recorded(app, answer):
    wait_until_old()
    base = create(answer)
    assert is_known(answer)
    path = find_file(app, base)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_known(answer)
    assert not find_stored(create(answer))


def test_reference_is_copied_to_object_storage_and_back(pair, answer, bucket):  # noqa: F811
    app, base, backup = pair
    content = app.content()
    address = f"s3://{bucket.name}/offsite"
    copied = answer("backup", "copy", backup["id"], "--to", address)["data"]
    assert copied["copied"] == [base["id"], backup["id"]]
    assert copied["copied_bytes"] == base["bytes"]
    shutil.rmtree(app.folder / "backups")
    answer("backup", "copy", "--from", address, "--to", "backups")
    answer("backup", "verify", "--deep")
    assert list_files(app, backup) == ["manifest.json", "verified.json"]
    replace_setting(app.folder, "repository", f'repository = "{address}"')
    assert find_stored(create(answer)) == base["id"]
    answer("backup", "verify", "--deep")
    change(app)
    answer("restore", "apply", backup["id"], "--yes")
    assert app.content() == content


def test_reference_is_not_copied_without_its_base(pair, answer):
    app, base, backup = pair
    find_file(app, base).write_bytes(b"damaged")
    result = answer("backup", "copy", "--to", str(app.folder / "other"), status=None)
    assert not list((app.folder / "other").rglob("manifest.json")), result
    shutil.rmtree(find_folder(app, base))
    error = answer("backup", "copy", backup["id"], "--to", str(app.folder / "other"), status=None)
    assert not list((app.folder / "other").rglob("manifest.json")), error


@pytest.mark.needs_extension("adopt")
@pytest.mark.parametrize("of_difference", [False, True])
def test_adopted_reference_is_stored_with_its_content(app, answer, of_difference):
    create(answer)
    if of_difference:
        change(app)
        create(answer)
    content, backup = app.content(), create(answer)
    assert find_stored(backup)
    foreign = app.folder / "foreign"
    shutil.move(app.folder / "backups/larder", foreign)
    shutil.rmtree(app.folder / "backups")
    (adopted,) = answer("backup", "adopt", str(foreign / backup["id"]))["data"]["adopted"]
    assert (find_stored(adopted), find_member(adopted)["delta"], adopted["bases"]) == ("", None, [])
    assert adopted["bytes"] > 0
    shutil.rmtree(foreign)
    answer("backup", "verify", "--deep")
    change(app, 2)
    answer("restore", "apply", adopted["id"], "--yes")
    assert app.content() == content
    assert not find_stored(create(answer))  # an adopted backup is no base


@pytest.mark.parametrize("of_difference", [False, True])
def test_other_commands_read_reference(app, answer, of_difference):
    create(answer)
    if of_difference:
        change(app)
        create(answer)
    saved, backup = app.content(), create(answer)
    assert find_stored(backup)
    change(app, 2)
    changed = app.content()
    answer("restore", "preview", backup["id"])
    answer("backup", "drill", backup["id"])
    answer("backup", "verify", backup["id"])
    answer("backup", "verify", backup["id"], "--deep")
    assert app.content() == changed
    answer("restore", "apply", backup["id"], "--yes")
    assert app.content() == saved
    answer("restore", "undo", "--yes")
    assert app.content() == changed
    answer("restore", "apply", backup["id"], "--table", "much", "--merge", "replace", "--yes")
    assert app.content()["much"] == saved["much"]
    change(app, 3)
    answer("restore", "apply", "--file", str(find_folder(app, backup)), "--yes")
    assert app.content() == saved


# Encryption -------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # deriving a key takes a second, and each backup has one
def test_encrypted_reference_is_decrypted_with_the_key_of_its_file(app, answer):
    secret = app.folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("first words\n")
    replace_setting(app.folder, "encrypt", 'encrypt = { passphrase_file = "passphrase" }')
    base, backup = create(answer), create(answer)
    content = app.content()
    assert find_stored(backup) == base["id"]
    assert list_files(app, backup) == [f"key_{backup['id']}.age", "manifest.json"]
    answer("backup", "verify", "--deep")
    change(app)
    answer("restore", "apply", backup["id"], "--yes")
    assert app.content() == content
    create(answer)
    secret.write_text("second words\n")
    assert not find_stored(create(answer))


def test_reference_has_the_same_recipients(app, answer):
    recipient = create_identity(app.folder, "id.txt")
    text = f'encrypt = {{ recipients = ["{recipient}"], identity_file = "id.txt" }}'
    replace_setting(app.folder, "encrypt", text)
    base, backup = create(answer), create(answer)
    assert find_stored(backup) == base["id"]
    assert list_files(app, backup) == ["manifest.json"]
    answer("backup", "verify", "--deep")
    answer("backup", "drill", backup["id"])
    replace_setting(
        app.folder, "encrypt", text.replace("]", f', "{create_identity(app.folder, "other.txt")}"]')
    )
    assert not find_stored(create(answer))
    replace_setting(app.folder, "encrypt", "")
    assert not find_stored(create(answer))


@pytest.mark.parametrize("renamed", ["app", "profile"])
def test_backups_from_before_a_renaming_are_no_bases(app, answer, renamed):
    create(answer)
    config, profile = app.folder / "dbctl.toml", app.folder / "cellar.toml"
    if renamed == "app":
        (app.folder / "backups/larder").rename(app.folder / "backups/cellar")
        config.write_text(config.read_text().replace("[apps.larder", "[apps.cellar"))
    else:
        profile.write_text(PROFILE.read_text().replace('name = "larder"', 'name = "cellar"', 1))
        config.write_text(config.read_text().replace(str(PROFILE), str(profile)))
    backup = create(answer)
    change(app)
    later = create(answer)
    assert (backup["bases"], later["bases"]) == ([], [backup["id"]])
    answer("backup", "copy", later["id"], "--to", "other")
    answer("backup", "verify", "--deep", backup["id"], later["id"])


# Several databases ------------------------------------------------------------------------------------------------


def test_only_the_changed_database_is_stored(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    names = ("first", "second")
    tables = "".join(
        f'[databases.{name}]\nengines = ["sqlite"]\nfind = ["{name}.db"]\nneeds = ["t"]\n' for name in names
    )
    (tmp_path / "two.toml").write_text(f'schema = "dbctl.profile/1"\nname = "two"\ntitle = "Two"\n{tables}')
    for name in names:
        run(name, "create table t (a integer primary key, b text unique)")
    answer("init", "./two.toml", ".", "--app", "two")
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text().replace("repository = ", "incremental = true\nrepository = ", 1))
    base = create(answer)
    run("second", "insert into t (b) values ('one more')")
    mixed = create(answer)
    assert {member["database"]: member["stored_in"] for member in mixed["members"]} == {
        "first": base["id"],
        "second": "",
    }
    (stored,) = [member for member in mixed["members"] if member["database"] == "second"]
    assert mixed["bytes"] == stored["bytes"]
    last = create(answer)
    assert {member["stored_in"] for member in last["members"]} == {base["id"], mixed["id"]}
    assert set(last["bases"]) >= {base["id"], mixed["id"]}
    result = answer("backup", "prune", "--keep-last", "1", "--yes")["data"]
    assert result["deleted"] == []
    answer("backup", "verify", "--deep")


def run(name, statement):
    with closing(sqlite3.connect(f"{name}.db")) as db, db:
        db.execute(statement)


# Forged references ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/etc", ".", "latest", "20260101_000000\n", "20260101_000000/.."])
def test_forged_id_of_reference_is_refused(pair, answer, name):
    app, _, backup = pair
    edit_manifest(app, backup, member={"stored_in": name})
    assert list_codes(answer) == {"manifest-unreadable"}
    assert_refused(app, answer, backup)


@pytest.mark.parametrize("forged", ["form", "no digest"])
def test_forged_kind_of_reference_is_refused(pair, answer, forged):
    app, _, backup = pair
    edit_manifest(app, backup, member={"form": "files"} if forged == "form" else {"content_sha256": ""})
    assert list_codes(answer) == {"manifest-unreadable"}


@pytest.mark.parametrize(
    "forged", ["itself", "missing", "reference", "file", "sha256", "bytes", "content", "rows", "each other"]
)
def test_forged_reference_is_refused(pair, answer, forged):
    app, base, backup = pair
    third = create(answer)
    if forged == "each other":
        edit_manifest(app, backup, member={"stored_in": third["id"]})
    edit_manifest(
        app,
        third,
        member={
            "itself": {"stored_in": third["id"]},
            "missing": {"stored_in": "20000101_000000"},
            "reference": {"stored_in": backup["id"]},
            "each other": {"stored_in": backup["id"]},
            "file": {"file": "manifest.json"},
            "sha256": {"sha256": "0" * 64},
            "bytes": {"bytes": 1},
            "content": {"content_sha256": "0" * 64},
            "rows": {"rows": {}},
        }[forged],
    )
    assert list_codes(answer, third["id"])
    assert list_codes(answer, third["id"], "--deep")
    assert "requires the base" in assert_refused(app, answer, third)["message"]
    for words in (
        ["copy", "--to", str(app.folder / "other")],
        ["delete", third["id"], "--with-dependents", "--yes"],
        ["prune", "--keep-last", "1", "--yes"],
    ):
        result = answer("backup", *words, status=None)
        assert result["exit_code"] in (0, 4, 6, 12), result
    assert find_file(app, base).exists()
