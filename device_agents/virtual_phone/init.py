"""The virtual phone's process 1: starts adbd and buries what is orphaned, as init does; a container's own may not.

    python init.py NAME=VALUE COMMAND...

NAME=VALUE goes to the children alone: it marks what belongs to the phone, and this process must outlive that.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36


def main(mark: str, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    name, _, value = mark.partition("=")
    os.posix_spawn(command[0], command, {**os.environ, name: value})
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
