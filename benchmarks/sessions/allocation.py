"""Memory that is given back to the system is paid for again page by page; a benchmark of large blocks keeps them."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names in malloc.h
_TWO_GIB = 2**31 - 1


def keep_large_blocks() -> bool:
    """Let this process reuse large blocks instead of mapping new ones; tell whether the C library can (glibc does).

    Blocks of scores have some 50 MB each; mapping them afresh took a third of an epoch.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _TWO_GIB))
