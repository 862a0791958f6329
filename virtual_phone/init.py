"""The virtual phone's process 1: starts adbd and buries what is orphaned, as init does; a container's own may not.

    python init.py NAME=VALUE COMMAND...

NAME=VALUE goes to the children alone: it marks what belongs to the phone, and this process must outlive that. Standard
input is a pipe from the process that owns the phone: when it ends, however it ended, the phone ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main(mark: str, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    name, _, value = mark.partition("=")
    no_input = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    os.posix_spawn(command[0], command, {**os.environ, name: value}, file_actions=no_input)
    threading.Thread(target=end_with_owner, args=(mark.encode(),), daemon=True).start()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def end_with_owner(mark: bytes) -> None:
    os.read(0, 1)
    while True:  # what starts in between is found the next time; main() returns once all are gone
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
