"""What every test relies on, wherever it is run."""

from __future__ import annotations

import signal

# A job in the background of a shell without job control has SIGINT ignored, and all that it starts with it; under nohup
# it is SIGHUP. Tests that send these signals to a child must see it obey all the same.
for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)
