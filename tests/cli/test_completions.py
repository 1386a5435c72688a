"""Completion files: current, and correct in real shells."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from dbctl.cli.completions import FILES, Shell
from dbctl.config import bundled_folder
from dbctl.profiles import loader
from dbctl.render import Format
from tools.completion import generate

FOLDER = bundled_folder("completions")


def require_shell(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.mark.parametrize("shell", list(Shell))
def test_bundled_completion_file_is_current(shell):
    assert (FOLDER / FILES[shell]).read_text() == generate.generate(shell)


def test_bundled_help_is_current():
    assert generate.HELP.read_text() == generate.root_help()


def complete_in_bash(*words, cwd):
    script = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _dbctl 2>/dev/null
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    process = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", FOLDER / "dbctl.bash", "dbctl", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not process.stderr
    return set(process.stdout.split("\n")) - {""}


BASH = [
    (("comp",), {"completions"}),
    (("completions", ""), {"show", "install"}),
    (("completions", "show", ""), {"bash", "zsh", "fish"}),
    (("-q", "completions", "show", "f"), {"fish"}),
    (("--app", "completions", "use"), {"users"}),
    (("completions", "show", "--out"), {"--output"}),
    (("-o", "js"), {"json", "jsonl"}),
    (("completions", "show", "bash", "--output", "=", "cs"), {"csv"}),
    (("completions", "show", "bash", "--output", "="), set(Format)),
    (("--config", "a"), {"a file.toml"}),
    (("completions", "show", "--", "z"), {"zsh"}),
    (("--timeout", ""), set()),
    (("stats", "run", "most-p"), {"most-played"}),
    (("sessions", "cleanup", "--rule", "ab"), {"abandoned-plays"}),
    (("search", ""), {search.name for name in loader.names() for search in loader.load(name).search}),
]


@require_shell("bash")
@pytest.mark.parametrize(("words", "completions"), BASH)
def test_bash_completes_words(words, completions, tmp_path):
    (tmp_path / "a file.toml").touch()
    assert complete_in_bash(*words, cwd=tmp_path) == completions


def complete_in_fish(line, cwd):
    process = subprocess.run(
        [
            "fish",
            "--no-config",
            "-c",
            f"source {shlex.quote(str(FOLDER / 'dbctl.fish'))}; complete -C {json.dumps(line)}",
        ],
        cwd=cwd,
        env=os.environ | {"HOME": str(cwd), "XDG_CONFIG_HOME": str(cwd / ".config")},
        capture_output=True,
        text=True,
        check=True,
    )
    return {word.split("\t")[0] for word in process.stdout.splitlines()}


FISH = [
    ("dbctl comp", {"completions"}),
    ("dbctl completions ", {"show", "install"}),
    ("dbctl -q --app x completions show f", {"fish"}),
    ("dbctl completions show bash -o js", {"json", "jsonl"}),
    ("dbctl --config a", {"a.toml"}),
    ("dbctl --app completions use", {"users"}),
    ("dbctl stats run most-p", {"most-played"}),
    ("dbctl sessions cleanup --rule ab", {"abandoned-plays"}),
]


@require_shell("fish")
@pytest.mark.parametrize(("line", "completions"), FISH)
def test_fish_completes_line(line, completions, tmp_path):
    (tmp_path / "a.toml").touch()
    assert complete_in_fish(line, tmp_path) == completions


@pytest.fixture
def zsh(tmp_path):
    child = pexpect.spawn(
        "zsh",
        ["-f", "-i"],
        cwd=str(tmp_path),
        encoding="utf-8",
        timeout=20,
        dimensions=(40, 200),
        env=os.environ | {"PS1": "", "TERM": "dumb"},
    )
    child.sendline(
        f"unsetopt zle_bracketed_paste; PS1='> '; fpath=({shlex.quote(str(FOLDER))} $fpath); autoload -U compinit; compinit -u -D; print rea''dy"
    )
    child.expect("ready")
    yield child
    child.close(force=True)


ZSH = [
    ("dbctl comple\t", "dbctl completions "),
    ("dbctl -q completions sh\t", "dbctl -q completions show "),
    ("dbctl completions show fi\t", "dbctl completions show fish"),
    ("dbctl completions show fish -o cs\t", "-o csv"),
    ("dbctl completions show fish --output=cs\t", "--output=csv"),
    ("dbctl --config a\t", "--config a.toml"),
    ("dbctl --exc\t", "--excel-safe"),
    ("dbctl stats run most-p\t", "dbctl stats run most-played"),
]


@require_shell("zsh")
@pytest.mark.parametrize(("keys", "line"), ZSH)
def test_zsh_completes(zsh, keys, line, tmp_path):
    (tmp_path / "a.toml").touch()
    zsh.send(keys)
    zsh.expect_exact(line)


def install(shell, home, *more):
    return subprocess.run(
        [sys.executable, "-m", "dbctl", "completions", "install", *shell, "-o", "json", *more],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SHELL": "/bin/bash",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )


PLACES = {
    "bash": ".local/share/bash-completion/completions/dbctl",
    "zsh": ".local/share/zsh/site-functions/_dbctl",
    "fish": ".config/fish/completions/dbctl.fish",
}


@pytest.mark.parametrize("shell", list(Shell))
def test_install_writes_completion_file_once(shell, tmp_path):
    first, second = (json.loads(install([shell], tmp_path).stdout)["data"] for _ in range(2))
    place = tmp_path / PLACES[shell]
    assert (first["path"], first["changed"], second["changed"]) == (str(place), True, False)
    assert place.read_text() == (FOLDER / FILES[shell]).read_text()
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_install_detects_shell_from_environment(tmp_path):
    assert json.loads(install([], tmp_path).stdout)["data"]["shell"] == "bash"


def test_install_does_not_replace_foreign_file(tmp_path):
    place = tmp_path / PLACES["bash"]
    place.parent.mkdir(parents=True)
    place.write_text("# mine\n")
    process = install(["bash"], tmp_path)
    assert (process.returncode, json.loads(process.stdout)["error"]["code"]) == (6, "file-exists")
    assert place.read_text() == "# mine\n"
