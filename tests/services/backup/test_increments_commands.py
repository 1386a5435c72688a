"""Commands that read incremental backups, with encryption, object storage and several repositories."""

from __future__ import annotations

import shutil

import pytest
from pyrage import x25519

from tests import storage
from tests.services.backup.test_increments import change, configure, create, read_delta, small  # noqa: F401 - a fixture
from tests.services.backup.test_increments_programs import set_clock  # noqa: F401 - a fixture


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    (tmp_path / "staging").mkdir(mode=0o700)
    return storage.use_new_bucket(monkeypatch, tmp_path / "staging")


def create_identity(folder, name):
    identity = x25519.Identity.generate()
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(f"{identity}\n")
    return str(identity.to_public())


def replace_setting(folder, name, line):
    file = folder / "dbctl.toml"
    lines = [text for text in file.read_text().splitlines() if not text.startswith(f"{name} =")]
    file.write_text("\n".join([*lines, line]) + "\n")


def find_delta(backup):
    """Return the base of the only database; the key of the backup is a member, too."""
    return next(member["delta"] for member in backup["members"] if member["database"])


@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
def test_backup_for_recipients_is_difference_until_they_change(answer, small, compress):  # noqa: F811
    recipient = create_identity(small.folder, "id.txt")
    configure(small.folder, f'compress = "{compress}"')
    replace_setting(
        small.folder, "encrypt", f'encrypt = {{ recipients = ["{recipient}"], identity_file = "id.txt" }}'
    )
    base = create(answer)
    change(small)
    content, backup = small.content(), create(answer)
    assert read_delta(backup)["backup"] == base["id"]
    assert not read_delta(backup)["applied"]
    change(small, 2)
    other = create_identity(small.folder, "other.txt")
    text = f'encrypt = {{ recipients = ["{recipient}", "{other}"], identity_file = "id.txt" }}'
    replace_setting(small.folder, "encrypt", text)
    changed = create(answer)
    assert read_delta(changed) is None
    assert any("encrypted in another way" in remark for remark in changed["remarks"]), changed
    answer("backup", "verify", "--deep")
    answer("restore", "apply", backup["id"], "--yes")
    assert small.content() == content


@pytest.mark.slow  # deriving a key takes a second, and each backup has one
def test_backup_with_passphrase_is_difference_until_it_changes(answer, small):  # noqa: F811
    secret = small.folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("first words\n")
    replace_setting(small.folder, "encrypt", 'encrypt = { passphrase_file = "passphrase" }')
    base = create(answer)
    change(small)
    assert find_delta(create(answer))["backup"] == base["id"]
    change(small, 2)
    secret.write_text("second words\n")
    changed = create(answer)
    assert find_delta(changed) is None
    assert any("encrypted in another way" in remark for remark in changed["remarks"]), changed


@pytest.mark.slow
def test_difference_is_copied_to_object_storage_and_back(answer, small, bucket):  # noqa: F811
    base = create(answer)
    change(small)
    content, backup = small.content(), create(answer)
    address = f"s3://{bucket.name}/offsite"
    assert set(answer("backup", "copy", backup["id"], "--to", address)["data"]["copied"]) == {
        base["id"],
        backup["id"],
    }
    shutil.rmtree(small.folder / "backups")
    answer("backup", "copy", "--from", address, "--to", "backups")
    answer("backup", "verify", "--deep")
    replace_setting(small.folder, "repository", f'repository = "{address}"')
    change(small, 2)
    full = create(answer)
    assert read_delta(full) is None  # the signature is that of the base in the other repository
    change(small, 3)
    assert read_delta(create(answer))["backup"] == full["id"]
    answer("backup", "verify", "--deep")
    answer("restore", "apply", backup["id"], "--yes")
    assert small.content() == content


@pytest.mark.slow
def test_other_commands_read_difference(answer, small):  # noqa: F811
    create(answer)
    change(small)
    saved, backup = small.content(), create(answer)
    change(small, 2)
    changed = small.content()
    answer("restore", "preview", backup["id"])
    answer("backup", "drill", backup["id"])
    answer("backup", "verify", backup["id"], "--against-live", status=None)
    assert small.content() == changed
    answer("restore", "apply", backup["id"], "--yes")
    assert small.content() == saved
    answer("restore", "undo", "--yes")
    assert small.content() == changed
    answer("restore", "apply", backup["id"], "--table", "much", "--merge", "replace", "--yes")
    assert small.content()["much"] == saved["much"]
    change(small, 3)
    answer("restore", "apply", "--file", str(small.folder / "backups" / "larder" / backup["id"]), "--yes")
    assert small.content() == saved


@pytest.mark.needs_extension("adopt")
def test_folder_with_difference_is_adopted_in_full(answer, small):  # noqa: F811
    base = create(answer)
    change(small)
    content, backup = small.content(), create(answer)
    foreign = small.folder / "foreign"
    shutil.move(small.folder / "backups" / "larder", foreign)
    shutil.rmtree(small.folder / "backups")
    alone = small.folder / "alone"
    shutil.copytree(foreign / backup["id"], alone / backup["id"])
    error = answer("backup", "adopt", str(alone / backup["id"]), status=4)["error"]
    assert f"requires the base {base['id']}" in error["message"], error
    assert (
        answer("backup", "list", status=None)["data"] in (None, {})
        or not answer("backup", "list")["data"]["items"]
    )
    (adopted,) = answer("backup", "adopt", str(foreign / backup["id"]))["data"]["adopted"]
    assert (read_delta(adopted), adopted["bases"]) == (None, [])
    assert ".delta" not in adopted["members"][0]["file"]
    shutil.rmtree(foreign)
    answer("backup", "verify", "--deep")
    change(small, 2)
    answer("restore", "apply", adopted["id"], "--yes")
    assert small.content() == content


@pytest.mark.slow
def test_status_reports_differences_that_were_never_applied(answer, small, set_clock):  # noqa: F811
    """Only a verification that loads such a backup, or a drill, verifies it."""
    recipient = create_identity(small.folder, "id.txt")
    text = f'encrypt = {{ recipients = ["{recipient}"], identity_file = "id.txt" }}'
    replace_setting(small.folder, "encrypt", text)
    configure(small.folder, 'verify_within = "2d"')

    def back_up(number):
        set_clock(2026, 5, 1)
        change(small, number)
        return create(answer)["id"]

    def read_state():
        findings = answer("backup", "status")
        (database,) = findings["data"]["databases"]
        is_reported = any("never applied" in warning for warning in findings["warnings"])
        assert is_reported == bool(database["unapplied"]), findings
        return database["unapplied"], database["due"].get("verify")

    base = back_up(1)
    assert read_state() == ([], None)
    names = [back_up(2), back_up(3)]
    assert read_state() == (names[::-1], None)
    answer("backup", "status", "--check")  # it is no problem by itself
    assert "never applied" not in str(answer("status"))
    set_clock(2026, 5, 4)
    assert read_state()[1] == f"3 backups not verified within 2d, with --deep, the oldest {base}"
    answer("backup", "verify")
    assert read_state() == (
        names[::-1],
        f"2 backups not verified within 2d, with --deep, the oldest {names[0]}",
    )
    answer("backup", "drill", names[0])
    assert read_state() == (names[1:], f"1 backup not verified within 2d, with --deep, the oldest {names[1]}")
    reference = create(answer)
    assert (reference["bases"], read_state()[0]) == ([names[1], base], names[1:])
    answer("backup", "drill", reference["id"])
    assert read_state() == ([], None)
    answer("backup", "delete", reference["id"], "--yes")
    assert read_state()[0] == names[1:]
    answer("backup", "verify", "--deep")
    assert read_state() == ([], None)
    set_clock(2026, 5, 9)
    answer("backup", "verify")
    assert read_state()[1].startswith("2 backups not verified within 2d, with --deep")
    answer("backup", "verify", "--deep")
    assert read_state() == ([], None)


def test_plan_of_copy_refuses_what_the_copy_refuses(answer, small):  # noqa: F811
    base = create(answer)
    change(small)
    backup = create(answer)
    assert read_delta(backup)["backup"] == base["id"]
    answer("backup", "copy", base["id"], "--to", "other dir")
    manifest = small.folder / "other dir" / base["app"] / base["id"] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bytes": ', '"bytes":  1', 1))

    def read_refused(*words):
        steps = answer("backup", "copy", *words, "--to", "other dir", "--dry-run")["data"]["plan"]["steps"]
        assert all(step.startswith("refuse ") for step in steps), steps
        failed = answer("backup", "copy", *words, "--to", "other dir", status=None)["data"]["failed"]
        assert [step.split()[1].rstrip(":") for step in steps] == [failure["id"] for failure in failed]
        return failed

    differs, lacks_base = read_refused()
    assert (differs["code"], lacks_base["code"]) == ("backup-differs", "base-missing")
    shutil.rmtree(small.folder / "backups" / base["app"] / base["id"])
    (lacks_base,) = read_refused()
    assert lacks_base["code"] == "base-missing"
