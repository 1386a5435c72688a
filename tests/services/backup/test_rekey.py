"""``backup rekey``: every backup is readable by the new keys alone, and none is without keys at any time."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from dbctl.config.sections import Selection
from dbctl.files import mounts
from dbctl.services.app.session import open_app
from dbctl.services.backup.copy import CopyBackups
from dbctl.services.backup.rekey import RekeyBackups
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.restore.drill_run import AppDrill
from dbctl.signals import Interrupted
from tests.observed_progress import observe_progress
from tests.services.backup.test_increments import change, configure, create, small  # noqa: F401 - a fixture
from tests.services.backup.test_increments_commands import bucket, create_identity, replace_setting  # noqa: F401 - a fixture
from tests.services.promptvault_app import create_keys, create_restore


def use_keys(folder, *recipients):
    texts = ", ".join(f'"{recipient}"' for recipient in recipients)
    replace_setting(folder, "encrypt", f"encrypt = {{ recipients = [{texts}] }}")


def set_passphrase(folder, name, text):
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")
    replace_setting(folder, "encrypt", f'encrypt = {{ passphrase_file = "{name}" }}')


def create_three(answer, app):
    """Create a full backup, a difference from it, and a reference to that; return the content of each."""
    contents = {}
    for is_changed in (False, True, False):
        if is_changed:
            change(app)
        backup = create(answer)
        contents[backup["id"]] = app.content()
    return contents


def verify(answer, *options):
    """Return the codes of the problems that a deep verification finds."""
    result = answer("backup", "verify", "--deep", *options, status=None)
    return sorted({finding["code"] for finding in result["data"]["findings"]}), result


def read_bytes(answer, folder, repository):
    copied = folder / "read"
    shutil.rmtree(copied, ignore_errors=True)
    answer("backup", "copy", "--from", repository, "--to", str(copied))
    return {path.relative_to(copied): path.read_bytes() for path in copied.rglob("2*/*") if path.is_file()}


@pytest.mark.parametrize(
    "is_remote", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["directory", "bucket"]
)
def test_backups_are_readable_by_the_new_identity_alone(answer, small, request, is_remote):  # noqa: F811
    folder = small.folder
    repository = f"s3://{request.getfixturevalue('bucket').name}/offsite" if is_remote else "backups"
    if is_remote:
        file = folder / "dbctl.toml"
        file.write_text(file.read_text().replace('repository = "backups"', f'repository = "{repository}"'))
    old, new = create_identity(folder, "old.txt"), create_identity(folder, "new.txt")
    use_keys(folder, old)
    contents = create_three(answer, small)
    answer("backup", "copy", "--to", "earlier")
    use_keys(folder, new)
    before = read_bytes(answer, folder, repository)
    plan = answer("backup", "rekey", "--identity", "old.txt", "--dry-run")["data"]["plan"]
    assert plan["destructive"]
    assert [name for name in contents if any(name in step for step in plan["steps"])] == list(contents)
    answer("backup", "rekey", "--identity", "old.txt", status=6)  # without a confirmation
    assert read_bytes(answer, folder, repository) == before

    result = answer("backup", "rekey", "--identity", "old.txt", "--identity", "new.txt", "--yes")
    assert result["data"]["encrypted"] == list(contents)
    assert not result["warnings"]
    assert verify(answer, "--identity", "new.txt")[0] == []
    codes, report = verify(answer, "--identity", "old.txt")
    assert "key-wrong" in codes, report
    for name, content in contents.items():
        assert answer("backup", "show", name)["data"]["recipients"] == [new]
        answer("restore", "apply", name, "--identity", "new.txt", "--yes")
        assert small.content() == content
    again = answer("backup", "rekey", "--yes")["data"]
    assert (again["encrypted"], again["leftovers"], again["effect"]) == ([], [], None)
    assert set(contents) <= set(again["current"])

    existing = answer("backup", "copy", *contents, "--to", "earlier")["data"]  # for the old key there
    assert sorted(existing["existing"]) == sorted(contents)
    change(small, 9)
    (member,) = create(answer)["members"]
    assert member["delta"]["backup"] == next(iter(contents))
    answer("backup", "rekey", "--repository", "earlier", "--identity", "old.txt", "--yes")
    assert verify(answer, "--repository", "earlier", "--identity", "new.txt")[0] == []


def test_a_reference_is_copied_after_both_repositories_were_encrypted_again(answer, small):  # noqa: F811
    """The file in each has the same name and the same content, but other bytes."""
    use_keys(small.folder, create_identity(small.folder, "old.txt"))
    base = create(answer)["id"]
    answer("backup", "copy", "--to", "copies")
    use_keys(small.folder, create_identity(small.folder, "new.txt"))
    for repository in ("backups", "copies"):
        answer("backup", "rekey", "--repository", repository, "--identity", "old.txt", "--yes")
    reference = create(answer)
    assert [member["stored_in"] for member in reference["members"]] == [base]
    answer("backup", "copy", "--to", "copies")
    assert verify(answer, "--repository", "copies", "--identity", "new.txt")[0] == []
    content = small.content()
    change(small)
    source = ("--repository", "copies", "--identity", "new.txt")
    answer("restore", "apply", reference["id"], *source, "--yes")
    assert small.content() == content


@pytest.mark.parametrize("key", ["identities", pytest.param("passphrases", marks=pytest.mark.slow)])
def test_commands_that_read_the_manifests_before_use_the_present_files(answer, small, key):  # noqa: F811
    use_new = use_keys, create_identity(small.folder, "new")
    use_old = use_keys, create_identity(small.folder, "old")
    if key == "passphrases":
        use_new, use_old = ((set_passphrase, name, f"{name} words") for name in ("new", "old"))
    for use, *words in (use_new, use_old):
        use(small.folder, *words)
    contents = create_three(answer, small) if key == "identities" else {create(answer)["id"]: small.content()}
    selected = list(contents)[len(contents) // 2]
    with open_app(Selection(config="dbctl.toml"), timeout=5) as app:
        repository, files = Repository(app), {key: [small.folder / "old", small.folder / "new"]}
        keys = create_keys(app, **files)
        verifications = [VerifyBackups(repository, keys=keys, deep=deep) for deep in (True, False)]
        drill, copy = (
            AppDrill(repository, keys, selected),
            CopyBackups(repository, Repository(app, "copies"), []),
        )
        restore = create_restore(repository, selected, **files)
        use_new[0](small.folder, *use_new[1:])
        option = "--identity" if key == "identities" else "--passphrase-file"
        assert answer("backup", "rekey", option, "old", "--yes")["data"]["encrypted"] == list(contents)
        for verification in verifications:
            result = verification.run()
            assert (result.findings.findings, result.remarks) == ([], [])
        assert all(database.passed for database in drill.drill().databases)
        assert copy.apply().copied == list(contents)
        restore.apply()
        assert small.content() == contents[selected]
    assert not any("damaged" in item["note"] for item in answer("backup", "list")["data"]["items"])


def test_a_backup_is_encrypted_again_with_those_to_which_it_is_related(answer, small):  # noqa: F811
    old, new = create_identity(small.folder, "old.txt"), create_identity(small.folder, "new.txt")
    use_keys(small.folder, old)
    contents = create_three(answer, small)
    alone = create(answer, "--full")["id"]
    use_keys(small.folder, new)
    for name in contents:
        plan = answer("backup", "rekey", name, "--identity", "old.txt", "--dry-run")["data"]["plan"]
        assert [other for other in contents if any(other in step for step in plan["steps"])] == list(contents)
        assert not any(alone in step for step in plan["steps"])
    result = answer("backup", "rekey", alone, "--identity", "old.txt", "--yes")
    assert result["data"]["encrypted"] == [alone]
    assert any("no identity of this machine" in warning for warning in result["warnings"])
    assert verify(answer, "--identity", "old.txt", "--identity", "new.txt")[0] == []


@pytest.mark.slow  # deriving a key takes a second
def test_keys_are_changed_between_recipients_and_passphrases(answer, small):  # noqa: F811
    recipient = create_identity(small.folder, "id.txt")
    set_passphrase(small.folder, "first", "first words")
    name, content = create(answer)["id"], small.content()  # one: each has a key to derive
    change(small)
    set_passphrase(small.folder, "second", "second words")
    answer("backup", "rekey", "--passphrase-file", "first", "--yes")
    assert verify(answer)[0] == []
    use_keys(small.folder, recipient)
    answer("backup", "rekey", "--passphrase-file", "second", "--yes")
    assert verify(answer, "--identity", "id.txt")[0] == []
    assert not list((small.folder / "backups").rglob("key_*"))
    set_passphrase(small.folder, "third", "third words")
    answer("backup", "rekey", "--identity", "id.txt", "--yes")
    answer("restore", "apply", name, "--yes")
    assert small.content() == content


@pytest.mark.slow  # deriving a key takes a second
@pytest.mark.parametrize("damage", ["missing", "flipped", "link"])
def test_damaged_key_damages_only_its_backup(answer, small, damage):  # noqa: F811
    set_passphrase(small.folder, "first", "first words")
    damaged, sound = create(answer), create(answer, "--full")
    (path,) = small.folder.glob(f"backups/larder/{damaged['id']}/key_*.age")
    content = bytearray(path.read_bytes())
    content[30] ^= 1  # in the header, which is then no longer one of a passphrase
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content)
    elif damage == "link":
        path.symlink_to("nowhere")
    _, result = verify(answer)
    findings = result["data"]["findings"]
    assert findings
    assert all(damaged["id"] in finding["message"] for finding in findings), findings
    set_passphrase(small.folder, "second", "second words")
    result = answer("backup", "rekey", "--passphrase-file", "first", "--yes", status=12)["data"]
    assert (result["encrypted"], [failure["id"] for failure in result["failed"]]) == (
        [sound["id"]],
        [damaged["id"]],
    )


@pytest.mark.slow  # see above
def test_backups_with_several_older_passphrases_are_verified_together(answer, small):  # noqa: F811
    for name in ("first", "second"):
        set_passphrase(small.folder, name, f"{name} words")
        create(answer, "--full")
    set_passphrase(small.folder, "third", "third words")
    assert verify(answer, "--passphrase-file", "first", "--passphrase-file", "second")[0] == []


def test_damaged_backup_stays_as_it_is_with_those_that_require_it(answer, small):  # noqa: F811
    old, new = create_identity(small.folder, "old.txt"), create_identity(small.folder, "new.txt")
    use_keys(small.folder, old)
    contents = create_three(answer, small)
    alone = create(answer, "--full")["id"]
    (path,) = (small.folder / "backups" / "larder" / next(iter(contents))).glob("*.age")
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    use_keys(small.folder, new)
    result = answer("backup", "rekey", "--identity", "old.txt", "--yes", status=12)["data"]
    assert result["encrypted"] == [alone]
    assert {failure["id"]: failure["code"] for failure in result["failed"]} == {
        name: "rekey-refused" if index else "corrupt" for index, name in enumerate(contents)
    }
    assert path.read_bytes() == damaged
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "status"),
    [((), 2), (("--identity", "other.txt"), 6), (("--db", "pantry"), 2), (("2000",), 5)],
)
def test_without_the_keys_nothing_is_changed(answer, small, options, status):  # noqa: F811
    old, new = create_identity(small.folder, "old.txt"), create_identity(small.folder, "new.txt")
    create_identity(small.folder, "other.txt")
    use_keys(small.folder, old)
    create_three(answer, small)
    use_keys(small.folder, new)
    before = {path: path.read_bytes() for path in (small.folder / "backups").rglob("*.*") if path.is_file()}
    answer("backup", "rekey", *options, "--yes", status=None if status == 6 else status)
    after = {path: path.read_bytes() for path in (small.folder / "backups").rglob("*.*") if path.is_file()}
    lock = {path for path in after if path.name == ".dbctl-lock"}
    assert {path: content for path, content in after.items() if path not in lock} == {
        path: content for path, content in before.items() if path not in lock
    }


def test_repository_without_space_is_not_changed(answer, small, monkeypatch):  # noqa: F811
    use_keys(small.folder, create_identity(small.folder, "old.txt"))
    create(answer)
    use_keys(small.folder, create_identity(small.folder, "new.txt"))
    before = read_bytes(answer, small.folder, "backups")
    real = mounts.free_space
    with monkeypatch.context() as patch:
        patch.setattr(mounts, "free_space", lambda path: 1 if "backups" in path.parts else real(path))
        error = answer("backup", "rekey", "--identity", "old.txt", "--yes", status=1)["error"]
    assert error["code"] == "insufficient-space"
    assert read_bytes(answer, small.folder, "backups") == before


def test_plain_backups_stay_plain_and_need_keys_to_be_configured(answer, small):  # noqa: F811
    plain = create(answer)["id"]
    answer("backup", "rekey", "--yes", status=2)
    use_keys(small.folder, create_identity(small.folder, "new.txt"))
    assert answer("backup", "rekey", "--yes")["data"]["plain"] == [plain]


def test_leftovers_of_an_interrupted_run_are_deleted(answer, small):  # noqa: F811
    old, new = create_identity(small.folder, "old.txt"), create_identity(small.folder, "new.txt")
    use_keys(small.folder, old)
    create(answer)
    (path,) = (small.folder / "backups").rglob("*.age")
    stem = path.name.removesuffix(".age")
    (path.parent / f"{stem}.r2.age").write_bytes(b"half")
    (path.parent / "notes.age").write_bytes(b"of the admin")
    use_keys(small.folder, new)
    result = answer("backup", "rekey", "--identity", "old.txt", "--yes")["data"]
    assert [name.rpartition("/")[2] for name in result["leftovers"]] == [f"{stem}.r2.age"]
    names = {entry.name for entry in path.parent.iterdir()}
    assert names == {f"{stem}.r2.age", "notes.age", "manifest.json"}
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert [member["file"] for member in manifest["backup"]["members"]] == [f"{stem}.r2.age"]
    # killed before it deleted the files for the old key
    path.write_bytes(b"of the old key")
    result = answer("backup", "rekey", "--yes")["data"]
    assert [name.rpartition("/")[2] for name in result["leftovers"]] == [path.name]
    assert not path.exists()
    assert verify(answer, "--identity", "new.txt")[0] == ["file-unknown"]
    assert configure


@pytest.mark.parametrize("command", ["copy", "rekey"])
def test_signal_names_the_backups_that_are_complete(answer, small, command):  # noqa: F811
    use_keys(small.folder, create_identity(small.folder, "old.txt"))
    first, second, third = create_three(answer, small)
    use_keys(small.folder, create_identity(small.folder, "new.txt"))
    before = answer("backup", "show", first)["data"]["recipients"]
    with open_app(Selection(config="dbctl.toml"), timeout=5) as app:
        repository = Repository(app)

        def is_complete(name):
            if command == "copy":
                return any((small.folder / "copies").rglob(f"{name}/manifest.json"))
            return repository.find(name).recipients != before

        def interrupt(_count):
            if is_complete(first):
                raise Interrupted(signal.SIGTERM)

        operation = (
            CopyBackups(repository, Repository(app, str(small.folder / "copies")), [])
            if command == "copy"
            else RekeyBackups(repository, [], create_keys(app, identities=[small.folder / "old.txt"]))
        )
        with pytest.raises(Interrupted) as interrupted, observe_progress(interrupt):
            operation.apply()
        assert [is_complete(name) for name in (first, second, third)] == [True, False, False]
    assert [name in interrupted.value.hint for name in (first, second, third)] == [True, False, False]
