"""Names and prose follow ``docs/design/glossary.md``; ``python -m tools.glossary PATH`` prints the violations of a file."""

from __future__ import annotations

from pathlib import Path

from tools.glossary import check_file, list_files


def test_all_files_follow_the_glossary() -> None:
    violations = [str(violation) for path in list_files() for violation in check_file(path)]
    assert not violations, "\n".join(violations)


def test_names_and_prose_of_a_module_are_checked(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""Reads what\nsomebody wrote."""\n'
        "from hypothesis import given\n"
        "# It tells the user; `told` is a name.\n"
        "class AskedRows:\n"
        "    def read(self, found: int, not_found: int) -> str:\n"
        "        self.kept_rows = [one for one in [found, not_found]]\n"
        '        raise ValueError(f"{found} stands in no table, it stands for no row")\n',
        encoding="utf-8",
    )
    assert sorted((violation.line, violation.word) for violation in check_file(str(module))) == [
        (2, "somebody"),
        (4, "tells"),
        (5, "asked"),
        (6, "found"),
        (7, "kept"),
        (7, "one"),
        (8, "stands"),
    ]


def test_comments_of_sql_and_toml_and_text_of_pages_are_checked(tmp_path: Path) -> None:
    texts = {
        "script.sql": "SELECT 'told -- told'; -- anew\n/* one\ntold */\n",
        "profile.toml": 'title = "told # told" # anew\nnote = "told"\n# one\n# told\n',
        "page.md": "`told`\n```\ntold\n```\nMade anew, see [a page](told.md).\nIt\n was taken\naway.\n",
    }
    words = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        words[name] = [(violation.line, violation.word) for violation in check_file(str(tmp_path / name))]
    assert words == {
        "script.sql": [(1, "anew"), (3, "told")],
        "profile.toml": [(1, "anew"), (4, "told")],
        "page.md": [(5, "anew"), (7, "taken away")],
    }
