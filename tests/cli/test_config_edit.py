"""``config edit``: the file is replaced only by a valid one, whatever the editor does."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

VALID = '# mine\n[apps.shop]\nprofile = "plain"\ndatabases = "postgresql://u:${SHOP_PASSWORD}@${HOST}:${PORT}/d"\n'
BROKEN = "[apps.shop\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("VISUAL", "EDITOR", "DBCTL_CONFIG", "SHOP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dbctl.toml").write_text(VALID)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    yield tmp_path
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def set_editor(folder, monkeypatch):
    """Set the editor to a shell script, with the path of the copy as $1."""

    def set_(script, variable="EDITOR"):
        path = folder / "the editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv(variable, f"{shlex.quote(str(path))} --wait")

    return set_


def test_edited_file_replaces_the_old_one_with_its_mode_and_owner(folder, set_editor, answer):
    file = folder / "dbctl.toml"
    file.chmod(0o640)
    if os.geteuid() == 0:
        shutil.chown(file, 65534, 65534)
    before = file.stat()
    set_editor('test "$1" = --wait && test "$(stat -c %a "$2")" = 600 && echo protected = true >> "$2"')
    data = answer("config", "edit")["data"]
    assert (data["changed"], data["apps"]) == (True, ["shop"])
    assert file.read_text() == VALID + "protected = true\n"
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_visual_precedes_editor(folder, set_editor, answer, monkeypatch):
    set_editor('echo "# visual" >> "$2"', "VISUAL")
    monkeypatch.setenv("EDITOR", "false")
    answer("config", "edit")
    assert (folder / "dbctl.toml").read_text().endswith("# visual\n")


@pytest.mark.parametrize("script", ["true", 'cp "$2" x; cat x > "$2"; rm x'])
def test_unchanged_file_is_not_written(folder, set_editor, answer, script):
    inode = (folder / "dbctl.toml").stat().st_ino
    set_editor(script)
    assert answer("config", "edit")["data"]["changed"] is False
    assert (folder / "dbctl.toml").stat().st_ino == inode


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (BROKEN, 1, "TOML"),
        ('[apps.shop]\nprofile = "none-such"\n', 2, "apps.shop.profile"),
        ('[apps.shop]\nprofile = "plain"\ndatabases = "oracle://h"\n', 3, "apps.shop.databases"),
        ('[apps.shop]\nprofile = "plain"\n\nprotectd = true\n', 4, "apps.shop.protectd"),
        ('[apps.blog]\nprofile = "plain"\n', 1, "apps.blog"),
        ("", 1, "TOML"),
        (" \n\n", 1, "TOML"),
    ],
)
def test_invalid_file_is_not_installed(folder, set_editor, answer, text, line, key):
    if "blog" in text:
        (folder / "dbctl.d").mkdir()
        (folder / "dbctl.d/blog.toml").write_text('[apps.blog]\nprofile = "plain"\n')
    (folder / "new").write_text(text)
    set_editor(f'cat {folder}/new > "$2"')
    result = answer("config", "edit", status=2)
    assert result["error"]["code"] == "config-invalid"
    assert f"line {line}, {key}" in " ".join(result["warnings"])
    assert (folder / "dbctl.toml").read_text() == VALID


def test_broken_configuration_can_be_corrected(folder, set_editor, answer):
    (folder / "dbctl.toml").write_text(BROKEN)
    set_editor("""printf '[apps.shop]\\nprofile = "plain"\\n' > "$2" """)
    assert answer("config", "edit")["data"]["apps"] == ["shop"]


def test_app_selects_its_file(folder, set_editor, answer):
    (folder / "dbctl.d").mkdir()
    (folder / "dbctl.d/blog.toml").write_text('[apps.blog]\nprofile = "plain"\n')
    set_editor('echo "# blog" >> "$2"')
    assert answer("config", "edit", "--app", "blog")["data"]["file"] == "dbctl.d/blog.toml"
    assert (folder / "dbctl.d/blog.toml").read_text().endswith("# blog\n")
    assert (folder / "dbctl.toml").read_text() == VALID
    assert answer("config", "edit", "--app", "none", status=5)["error"]["code"] == "app-missing"


def test_concurrent_change_is_not_overwritten(folder, set_editor, answer):
    set_editor(f'echo "# other" >> {folder}/dbctl.toml; echo "# mine too" >> "$2"')
    assert answer("config", "edit", status=6)["error"]["code"] == "config-changed"
    assert (folder / "dbctl.toml").read_text() == VALID + "# other\n"
    rejected = folder / "dbctl.toml.rejected"
    assert (rejected.read_text(), rejected.stat().st_mode & 0o777) == (VALID + "# mine too\n", 0o600)


def test_link_remains(folder, set_editor, answer):
    (folder / "real").mkdir()
    (folder / "dbctl.toml").rename(folder / "real/dbctl.toml")
    (folder / "dbctl.toml").symlink_to("real/dbctl.toml")
    set_editor('echo "# x" >> "$2"')
    answer("config", "edit")
    assert (folder / "dbctl.toml").is_symlink()
    assert (folder / "real/dbctl.toml").read_text().endswith("# x\n")


@pytest.mark.parametrize("editor", ["false", "none-such-editor", "'", "", "sh -c 'kill -9 $$'"])
def test_failed_editor_changes_nothing(folder, monkeypatch, answer, editor):
    monkeypatch.setenv("EDITOR", editor)
    assert answer("config", "edit", status=1)["error"]["code"] == "editor-failed"
    assert (folder / "dbctl.toml").read_text() == VALID


@pytest.mark.parametrize("script", ['rm "$2"', 'rm "$2"; mkdir "$2"', 'head -c 3000000 /dev/zero > "$2"'])
def test_copy_that_is_no_configuration_any_more(folder, set_editor, answer, script):
    set_editor(script)
    answer("config", "edit", status=None)
    assert (folder / "dbctl.toml").read_text() == VALID


def test_missing_configuration(folder, set_editor, answer):
    (folder / "dbctl.toml").unlink()
    set_editor("true")
    assert answer("config", "edit", "--config", "none.toml", status=5)["error"]["code"] == "file-missing"


def run_on_terminal(folder, replies):
    """Run the command on a terminal, answer each question, and return exit code and screen."""
    environment = os.environ | {"TMPDIR": str(folder / "temporary"), "NO_COLOR": "1"}
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dbctl", "config", "edit"],
        cwd=folder,
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment,
        start_new_session=True,
    )
    os.close(side)
    screen = b""
    while True:
        try:
            block = os.read(main, 4096)
        except OSError:  # the last process has closed the terminal
            break
        if not block:
            break
        screen += block
        if screen.endswith(b": ") and replies:
            os.write(main, replies.pop(0))
    os.close(main)
    return process.wait(timeout=30), screen.decode()


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"y\n", 0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((b"\n", 0), (b"n\n", 2), (b"\x04", 130))),
    ],
)
def test_invalid_file_can_be_edited_again_on_a_terminal(folder, set_editor, reply, status):
    set_editor(
        f'if test -e {folder}/seen; then echo "# second" > "$2"; else touch {folder}/seen; echo "[x" > "$2"; fi'
    )
    code, screen = run_on_terminal(folder, [reply])
    assert (code, "line 1, TOML" in screen) == (status, True), screen
    assert (folder / "dbctl.toml").read_text() == ("# second\n" if status == 0 else VALID)


def test_signal_ends_the_editor_and_removes_the_copy(folder, set_editor):
    set_editor(f"trap 'touch {folder}/ended; exit 1' TERM; touch {folder}/open; while :; do sleep 0.05; done")
    process = subprocess.Popen(
        [sys.executable, "-m", "dbctl", "config", "edit"],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        stderr=subprocess.DEVNULL,
    )
    while not (folder / "open").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert (folder / "ended").exists()
    assert Path("dbctl.toml").read_text() == VALID


def test_interrupt_of_the_editor_does_not_end_dbctl(folder, set_editor):
    set_editor("""trap 'echo "# interrupted" >> "$2"' INT; kill -INT $PPID $$""")
    process = subprocess.run(
        [sys.executable, "-m", "dbctl", "config", "edit"], cwd=folder, capture_output=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert Path("dbctl.toml").read_text() == VALID + "# interrupted\n"
