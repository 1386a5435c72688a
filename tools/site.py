"""Hooks of the documentation site (``mkdocs.yml``): links to files outside of ``docs`` lead to the repository, and schemas are published."""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Published next to the pages, for editors.
SCHEMAS = (
    "dbctl/config/config.schema.json",
    "dbctl/profiles/profile.schema.json",
    "dbctl/render/answers.schema.json",
)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: object) -> str:
    """Return a page whose links outside of the site are addresses of the repository."""

    def replace_link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), match[1]))
        target = ROOT / path
        if path.startswith("docs/") and target.suffix == ".md":
            return match[0]
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri}: {match[1]}")
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{path}{match[2] or ''})"

    return _LINK.sub(replace_link, markdown)


def on_post_build(config: Any, **_: object) -> None:
    """Copy the JSON Schemas into the site."""
    for schema in SCHEMAS:
        shutil.copy(ROOT / schema, config.site_dir)
