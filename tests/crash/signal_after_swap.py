"""An import lets the process interrupt itself once a restored database has its place, before the end of the restore."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from dbctl.engines.servers.dumps import StagedSwap


def _interrupt(frame: FrameType, event: str, _argument: object) -> None:
    if event == "call" and frame.f_code is StagedSwap.drop_old.__code__:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)


sys.setprofile(_interrupt)
