"""How does a helper process make sure that it never outlives the one that started it?

Twice over. Its standard input is a pipe that nobody writes to when all is over: its end means the parent is gone,
however it went (the reader of that pipe exits). And the kernel signals the parent's death, for the case that a fork of
the parent keeps the pipe open.
"""

from __future__ import annotations

import ctypes
import os
import signal
import types

_PR_SET_PDEATHSIG = 1
"""prctl(2)"""


def end_with_parent(parent: int) -> None:
    """From now on, exit at once when the process `parent` dies; exit now if it is dead already.

    Linux sends the signal when the parent's *thread* ends that started us, so the handler looks whether the process
    has gone. Call from the main thread. Elsewhere than on Linux only the pipe guards.
    """

    def orphaned(_signal: int, _frame: types.FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGHUP, orphaned)
    if hasattr(ctypes, "CDLL") and os.uname().sysname == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
