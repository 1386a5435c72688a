"""An app that runs concurrently with dbctl: commit a row every 2 ms until SIGTERM, then print the seconds of each commit as JSON."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time

stopped: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))

# A long busy timeout: long waits must be measured instead of failing.
app = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=600)
app.execute("pragma synchronous = normal")
waits = []
print("at work", flush=True)
while not stopped:
    start = time.perf_counter()
    app.execute("insert into activity_logs (username, action) values ('bench', 'tick')")
    waits.append(time.perf_counter() - start)
    time.sleep(0.002)
app.close()
json.dump(waits, sys.stdout)
