"""The page of the report in Chromium, on a phone and on a desktop, light and dark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests import external_tools, year_of_runs
from tests.services.fleet_app import create_fleet, tenant_path

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("examine_page.mjs")
#: Ends attributes, elements and comments, runs a script if it is not escaped, and reverses the direction of text.
HOSTILE = """"'><script>document.title='attacked'</script><img src=x onerror=alert(1)>--></style></svg>&amp;\u202e{{7*7}}"""


@pytest.fixture(scope="module")
def examine(tmp_path_factory):
    """Return what the browser reports about a page at each width and in each color scheme."""
    chromium, packages = shutil.which("chromium"), external_tools.browser_packages()
    if not (chromium and packages):
        reason = "chromium, or npm for its driver, is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    # Modules are found next to the script.
    script = tmp_path_factory.mktemp("browser") / SCRIPT.name
    shutil.copy(SCRIPT, script)

    def run(page: Path) -> list[dict[str, object]]:
        words = ["node", str(script), page.as_uri(), chromium]
        done = subprocess.run(words, cwd=packages, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    ("names", "days", "text"),
    [
        (["blog", "shop", "a-very-long-name-of-an-application-that-does-not-fit-on-a-phone"], 60, ""),
        (["blog", HOSTILE, "x" * 200], 30, HOSTILE),
    ],
    ids=["plain", "hostile"],
)
def test_browser_reports_nothing(names, days, text, examine, tmp_path, monkeypatch):
    config = year_of_runs.create_apps(tmp_path, names, days=days, text=text)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    page = tmp_path / "report.html"
    assert main(["--config", str(config), "report", "--html", str(page)]) == 0
    results = examine(page)
    assert [(result["width"], result["colorScheme"]) for result in results] == [
        (390, "light"),
        (390, "dark"),
        (1280, "light"),
        (1280, "dark"),
    ]
    for result in results:
        assert result["messages"] == []
        assert result["requests"] == [page.as_uri()]
        assert result["scrollWidth"] == result["width"]
        assert result["overflowing"] == []
        assert (result["scripts"], result["handlers"]) == (0, [])
        assert result["title"].startswith("Operations report of ")
        assert result["violations"] == []
    assert len({result["background"] for result in results}) == 2
    assert results[0]["headings"] == [
        "applications",
        "findings",
        "growth",
        "activity",
        "backups",
        "migrations",
        "changes",
    ]


def test_page_of_a_fleet_is_accessible(examine, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    create_fleet(tmp_path, tuple(f"{letter * 30}" for letter in "abcdefgh"))
    for name in "ab":
        tenant_path(tmp_path, name * 30).write_bytes(b"damaged " * 1000)
    words = ["--config", str(tmp_path / "dbctl.toml")]
    assert main([*words, "backup", "create", "--quiet"]) == 12
    page = tmp_path / "report.html"
    assert main([*words, "report", "--html", str(page)]) == 0
    for result in examine(page):
        assert (result["messages"], result["violations"], result["overflowing"]) == ([], [], [])
        assert result["scrollWidth"] == result["width"]


def test_page_without_data_is_accessible(examine, tmp_path, monkeypatch):
    config = year_of_runs.create_apps(tmp_path, ["blog"], days=0)
    monkeypatch.setenv("DBCTL_STATE", "off")
    page = tmp_path / "report.html"
    assert main(["--config", str(config), "report", "--html", str(page)]) == 0
    assert [(result["violations"], result["overflowing"]) for result in examine(page)] == [([], [])] * 4
