"""The sandbox for code from a model: limits on time and memory, and a seccomp filter on system calls.

Every system call outside ALLOWED fails with EPERM: no file, socket or process can be opened from inside. Numbers are
those of the kernel's tables. As a script, ``python -I -S sandbox.py BYTES SECONDS STATUS_FD`` runs what it reads.
It reports on STATUS_FD, which is closed before the code starts, whether the sandbox is up: an exit code or an output
belongs to the code alone. Imports nothing of ours.
"""

import contextlib
import ctypes
import io
import os
import platform
import random
import resource
import struct
import sys

# imported before the filter is installed, so that the code may use them
PREPARED = ("bisect", "collections", "datetime", "decimal", "fractions", "functools", "heapq", "itertools", "json",
            "math", "operator", "re", "statistics", "string", "traceback")  # fmt: skip
# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn mremap madvise
# getpid exit gettimeofday sigaltstack futex clock_gettime exit_group getrandom sched_yield gettid
ALLOWED = {
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 39, 60, 96, 131, 202, 228, 231, 318, 24,
                            186)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 172, 93, 169, 132, 98,
                             113, 94, 278, 124, 178)),
}  # fmt: skip
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, JUMP_GREATER, RETURN = 0x20, 0x15, 0x25, 0x06  # of classic BPF
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # REFUSE is EPERM
X32 = 0x40000000  # calls of another table of x86-64
READY = b"ready"  # on the status pipe; anything else is the reason why there is no sandbox
MAX_PRINTED = 2**16


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def rules(architecture: int, allowed: tuple[int, ...]) -> bytes:
    """Another architecture's calls kill; listed ones pass; the rest is refused."""
    parts = [
        instruction(LOAD, 4), instruction(JUMP_EQUAL, architecture, 1, 0), instruction(RETURN, KILL),
        instruction(LOAD, 0), instruction(JUMP_GREATER, X32 - 1, 0, 1), instruction(RETURN, REFUSE),
    ]  # fmt: skip
    for number in allowed:
        parts += [instruction(JUMP_EQUAL, number, 0, 1), instruction(RETURN, ALLOW)]
    return b"".join([*parts, instruction(RETURN, REFUSE)])


def install_filter() -> None:
    """Raises OSError where the kernel refuses, or knows no filter for this machine."""
    if platform.system() != "Linux" or platform.machine() not in ALLOWED:
        raise OSError(f"{platform.system()} on {platform.machine()} is not supported")
    architecture, allowed = ALLOWED[platform.machine()]
    program = rules(architecture, allowed)
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


def limit(memory: int, seconds: int) -> None:
    """``memory`` is the address space in bytes, ``seconds`` of CPU time."""
    limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: MAX_PRINTED,
              resource.RLIMIT_CORE: 0, resource.RLIMIT_NPROC: 0}  # fmt: skip
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def enter(memory: int, seconds: int, status: int) -> bool:
    """Limits and locks this process; the file descriptor ``status`` gets READY or the reason why not, and is closed."""
    try:
        limit(memory, seconds)
        install_filter()
        report = READY
    except (OSError, ValueError, OverflowError, AttributeError) as error:
        report = str(error).encode() or b"no reason given"
    os.write(status, report)
    os.close(status)
    return report == READY


def main() -> int:
    modules = {name: __import__(name) for name in PREPARED}
    code = sys.stdin.buffer.read().decode(errors="replace")
    if not enter(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        return 1
    random.seed(0)
    printed, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<call>", "exec"), {"__name__": "__main__", **modules})
    except SystemExit:
        pass
    except MemoryError:
        printed, status = io.StringIO("MemoryError"), 1
    except BaseException as error:
        status = 1
        printed.write("".join(modules["traceback"].format_exception_only(error)).strip().splitlines()[-1])
    sys.stdout.write(printed.getvalue()[: MAX_PRINTED // 8].encode(errors="replace").decode())
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
