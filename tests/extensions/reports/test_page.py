"""The report: its page has the figures of the JSON, escapes every text, and replaces only pages."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from dbctl.cli.main import main
from dbctl.extensions.reports import elements
from dbctl.services.events import store
from tests import year_of_runs

NAMES = ("blog", "shop")
MARKUP = "<b>\"'&\u202e\x1b"


class PageReader(HTMLParser):
    """The cells of the tables, the values of the cards and totals, and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[object]]] = {}
        self.articles: list[list[object]] = []
        self.totals: list[object] = []
        self.tags: set[str] = set()
        self._cells: list[list[object]] = []
        self._target: list[object] | None = None
        self._caption = self._in_caption = False
        self._exact = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        if tag == "table":
            self._rows: list[list[object]] = []
        elif tag == "caption":
            self._in_caption, self._caption = True, ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._target = cell = []
            self._rows[-1].append(cell)
        elif tag == "article":
            self._target = []
            self.articles.append(self._target)
        elif tag == "dd":
            self._target = self.totals
        elif tag == "data" and self._target is not None:
            self._target.append(float(values["value"]))
            self._exact = True
        elif tag == "time" and self._target is not None:
            self._target.append(values["datetime"])
            self._exact = True

    def handle_endtag(self, tag):
        if tag == "caption":
            self._in_caption = False
        elif tag in ("td", "th", "article", "dd"):
            self._target = None
        elif tag in ("data", "time"):
            self._exact = False
        elif tag == "table":
            rows = [[cell[0] if len(cell) == 1 else cell for cell in row] for row in self._rows[1:]]
            self.tables[self._caption] = rows

    def handle_data(self, data):
        if self._in_caption:
            self._caption += data
        elif self._target is not None and not self._exact:
            self._target.append(None if data == "–" else data)

    def table(self, begin):
        """Return the rows of the table whose caption begins with a text."""
        return next((rows for caption, rows in self.tables.items() if caption.startswith(begin)), [])


@pytest.fixture
def create(tmp_path, monkeypatch, answer):
    """Write the page and the JSON of one run about generated apps; return both."""

    def run(*words, names=NAMES, days=40, text=""):
        config = year_of_runs.create_apps(tmp_path, names, days=days, text=text)
        monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
        assert main(["--config", str(config), "backup", "create", "--app", names[0], "--quiet"]) == 0
        page = tmp_path / "report.html"
        data = answer("--config", str(config), "report", "--html", str(page), *words)["data"]
        return page.read_text(), data

    return run


def pick(rows, *fields):
    return [[row[field] for field in fields] for row in rows]


def test_figures_of_the_page_equal_the_json(create):
    text, data = create()
    page = PageReader(text)
    board = [[*row[:1], *row[2:7], *row[7:]] for row in page.table("All applications")]
    assert board == [
        [
            app["app"],
            app["databases"],
            app["bytes"],
            app["bytes_per_day"],
            app["users"],
            app["backup_at"],
            app["pending"],
            app["errors"] + app["warnings"],
            app["failed_runs"],
        ]
        for app in data["apps"]
    ]
    assert page.table("Tables") == pick(
        data["tables"], "table", "target", "rows", "rows_change", "rows_per_day"
    )
    assert page.table("Figures") == pick(data["figures"], "name", "target", "value", "change")
    assert [row[:2] for row in page.table("Failed")] == pick(data["failures"], "id", "started_at")
    assert [row[:2] for row in page.table("Changes")] == pick(data["changes"], "id", "started_at")
    assert [row[1:5] for row in page.table("The newest")] == pick(
        data["backups"], "created_at", "bytes", "backups", "verified_at"
    )
    cards = [{value for value in card if isinstance(value, float)} for card in page.articles]
    growth = [database["growth"] for database in data["databases"]]
    assert all({row["bytes"], row["bytes_per_day"]} <= card for row, card in zip(growth, cards, strict=True))
    totals = data["totals"]
    numbers = [value for value in page.totals if isinstance(value, float)]
    assert numbers == [
        totals["apps"],
        totals["bytes"],
        totals["bytes_per_day"],
        totals["errors"] + totals["warnings"],
        totals["failed_runs"],
        totals["due_backups"],
    ]
    assert data["failures"]
    assert data["figures"]
    assert data["tables"]


def test_activity_counts_each_run_once(create):
    _, data = create()
    counts = [(period["succeeded"], period["failed"]) for period in data["activity"]]
    totals = data["totals"]
    assert [sum(column) for column in zip(*counts, strict=True)] == [
        totals["runs"] - totals["failed_runs"],
        totals["failed_runs"],
    ]
    assert totals["runs"] > 100


def test_every_text_is_escaped(create):
    text, data = create(names=("blog", MARKUP), text=MARKUP)
    assert any(MARKUP in app["app"] for app in data["apps"])
    assert "<b>" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert not PageReader(text).tags & {"b", "script", "img", "link", "iframe", "object", "form"}


def test_attributes_are_escaped():
    assert elements.element("p", title='"><i>') == '<p title="&quot;&gt;&lt;i&gt;"></p>'
    assert elements.join("<", elements.Html("<br>"), None) == "&lt;<br>"


def test_policy_allows_only_the_style_of_the_page(create):
    text, _ = create(days=3)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.split("; ")[:2] == [
        "default-src &#x27;none&#x27;",
        f"style-src &#x27;sha256-{digest}&#x27;",
    ]
    assert "http" not in text.replace("http-equiv", "").replace("http-", "")
    assert "url(" not in style


@pytest.mark.slow
def test_page_of_twenty_apps_and_a_year_is_below_one_megabyte(create):
    text, data = create("--since", "1y", names=[f"app{index}" for index in range(20)], days=365)
    assert (len(data["apps"]), data["totals"]["runs"] > 10_000) == (20, True)
    assert len(text.encode()) < 1_000_000


def test_page_replaces_only_a_page(create, tmp_path, capsys):
    create(days=2)
    words = ["--config", str(tmp_path / "dbctl.toml"), "report", "--html"]
    page, other = tmp_path / "report.html", tmp_path / "app0.db"
    begin, content = page.read_text()[:200], other.read_bytes()
    assert main([*words, str(page)]) == 0
    assert page.read_text()[:200] == begin
    assert main([*words, str(other)]) == 6
    assert other.read_bytes() == content
    assert main([*words, str(tmp_path)]) == 1
    assert main([*words, str(tmp_path / "missing" / "report.html")]) == 1
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    capsys.readouterr()
    assert main([*words, "-"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")


def test_corrupt_journal_is_a_finding_and_no_failure(create, tmp_path, answer):
    create(days=2)
    journal = tmp_path / "state" / store.FILE_NAME
    for path in journal.parent.glob(f"{store.FILE_NAME}-*"):
        path.unlink()
    journal.write_bytes(b"no database" * 1000)
    data = answer("--config", str(tmp_path / "dbctl.toml"), "report")["data"]
    assert "run-unavailable" in {finding["code"] for finding in data["findings"]}
    assert (data["totals"]["runs"], data["tables"]) == (0, [])


def test_unreadable_database_is_on_the_board_with_a_remedy(create, tmp_path, answer):
    create(days=2)
    (tmp_path / "app1.db").write_bytes(b"no database" * 1000)
    data = answer("--config", str(tmp_path / "dbctl.toml"), "report")["data"]
    assert [(app["app"], app["health"]) for app in data["apps"]] == [("shop", "error"), ("blog", "ok")]
    remedies = {finding["code"]: finding["remedy"] for finding in data["findings"]}
    assert re.fullmatch(r"\S*dbctl backup create --config \S+ --app shop", remedies["backup-due"])


def test_terminal_report_has_the_sections(create, tmp_path, capsys):
    create(days=40)
    capsys.readouterr()
    assert main(["--config", str(tmp_path / "dbctl.toml"), "report"]) == 0
    lines = capsys.readouterr().out.splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles[:3] == ["apps:", "databases:", "findings:"]
