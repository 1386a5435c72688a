"""Run dbctl with the toy engine, which has its line in the table of engines."""

import dbctl.url
from dbctl.__main__ import run

dbctl.url.ENGINES["toy"] = dbctl.url.EngineEntry(place="tests.engines.toy.engine:ENGINE", kind="file")  # type: ignore[index]
run()
