"""Run dbctl with the toy engine: its package is visible in ``dbctl.engines``, and it has its line in the table of engines."""

from pathlib import Path

import dbctl.engines
import dbctl.url
from dbctl.__main__ import run

dbctl.engines.__path__.append(str(Path(__file__).parents[1]))
dbctl.url.ENGINES["toy"] = "file"  # type: ignore[index]
dbctl.url.SCHEMES["toy"] = "toy"
run()
