"""Become another program that cannot outlive its parent; run as a script, so it imports nothing of Alluvium.

    python -I -S launcher.py PARENT_PID DEATH_SIGNAL UID GID -- PROGRAM [ARGUMENT ...]

The kernel sends DEATH_SIGNAL when the parent dies, even by `kill -9`. A `preexec_fn` would do the same but may deadlock
in a parent with threads. UID and GID -1 keep the user; the signal is set last, because changing users clears it.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Give up the user, tie this process to its parent, then become the program."""
    parent, death_signal, uid, gid = (int(word) for word in sys.argv[1:5])
    program = sys.argv[6:]
    if gid >= 0:
        os.setgroups([])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the signal was set
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
