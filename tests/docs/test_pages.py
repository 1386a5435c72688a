"""Documentation pages: shown output is real, and links and names exist."""

from __future__ import annotations

import atexit
import multiprocessing
import re
import sys
import tomllib
from pathlib import Path

import pytest

from dbctl.extensions import registry
from docs import console

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if "```console" in path.read_text(encoding="utf-8")
)
#: Pages about the code.
DEVELOPER_PAGES = [
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs/design").glob("*.md"),
    *(ROOT / "benchmarks").rglob("*.md"),
    *(ROOT / "tests").rglob("*.md"),
]
LINKED_PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *DEVELOPER_PAGES})


#: Forks processes from a server process with loaded modules.
PRELOADED = multiprocessing.get_context("forkserver")
PRELOADED.set_forkserver_preload(["tests.docs.preloaded"])


def run_console(*words: str) -> None:
    """Run ``docs/console.py``, and stop the servers of the page, which such a process does not do by itself."""
    try:
        sys.exit(console.main(list(words)))
    finally:
        atexit._run_exitfuncs()


def read_aligned(page: Path) -> str:
    """Return a page with columns of equal distance: a longer duration widens its column."""
    return re.sub(r"(?<=\S)   +(?=\S)", "  ", page.read_text(encoding="utf-8"))


@pytest.mark.needs_extension
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_page_print_shown_output(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / page.name
    copy.write_bytes(page.read_bytes())
    process = PRELOADED.Process(target=run_console, args=("write", str(copy)))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert read_aligned(copy) == read_aligned(page), "run make docs"


def test_pages_show_no_rejected_column() -> None:
    """An unknown column changes the output, but not always the exit code."""
    assert [str(page) for page in PAGES if "--columns: no column" in page.read_text(encoding="utf-8")] == []


@pytest.mark.needs_extension
@pytest.mark.parametrize("page", LINKED_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.needs_extension
@pytest.mark.parametrize("page", DEVELOPER_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_on_developer_pages_exist(page: Path) -> None:
    """Check names in backticks: modules, by the end of their path, and paths from the root without placeholders."""
    text = page.read_text(encoding="utf-8")
    modules = re.findall(r"`([\w/]+\.py)`", text)
    paths = re.findall(r"`((?:dbctl|docs|migrations|tests|tools)/[a-z_./-]+)`", text)
    existing = [
        f"/{path.relative_to(ROOT)}"
        for top in ("dbctl", "docs", "tests", "tools")
        for path in (ROOT / top).rglob("*.py")
    ]
    missing = [name for name in modules if not any(path.endswith(f"/{name}") for path in existing)]
    missing += [name for name in paths if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.needs_extension
def test_each_extension_has_pages_which_the_table_lists() -> None:
    """The extension ``demo`` has none: the other pages begin with it."""
    table = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| .* \| \[\1/([\w.-]+)\]\(extensions/\1/\2\) \|$", table, re.MULTILINE)
    pages = [(page.parent.name, page.name) for page in (ROOT / "docs/extensions").rglob("*.md")]
    assert sorted(listed) == sorted(pages)
    names = {extension.name for extension in registry.list_built_in()}
    assert {name for name, _ in listed} == names - {"demo"}


@pytest.mark.needs_extension
def test_each_guarantee_names_tests_that_exist() -> None:
    page = ROOT / "docs/explanation/guarantees.md"
    rows = page.read_text(encoding="utf-8").splitlines()
    rows = rows[rows.index("| --- | --- |") + 1 :]
    for row in rows:
        named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", row)
        assert named, row
        for test, file in named:
            assert f"\ndef {test}(" in (page.parent / file).read_text(encoding="utf-8"), test


def test_page_of_the_architecture_lists_all_layers():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    packages = {
        package
        for contract in contracts
        if contract["type"] == "layers"
        for layer in contract["layers"]
        for package in layer.split(" | ")
    }
    page = (ROOT / "docs/design/architecture.md").read_text(encoding="utf-8")
    block = page.partition("**Layers.**")[2].split("```")[1]
    assert {*re.findall(r"\w+", block)} - {"text", "dbctl"} == packages


def test_hidden_commands_prepare_a_page_and_must_succeed(tmp_path: Path) -> None:
    text = "<!-- console\n$ echo shown > file\n-->\n\n```console\n$ cat file\n```\n"
    terminal = console.Terminal(tmp_path, text)
    assert console.render_page(text, terminal) == text.replace("cat file\n", "cat file\nshown\n")
    with pytest.raises(RuntimeError, match="rmdir absent"):
        console.render_page(text.replace("echo shown > file", "rmdir absent"), terminal)
