"""How the C library keeps memory for the threads of a long-running process."""

import ctypes

M_ARENA_MAX = -8  # of glibc's malloc.h
ARENAS = 2  # glibc would make eight per core, and what a thread freed in one is no use to another


def share_memory_between_threads() -> bool:
    """Let all threads allocate from two pools; says whether this C library can.

    Request threads come and go. With a pool each, the memory of a large page stays with the thread that
    answered it, and the process grows by half.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, ARENAS) == 1
