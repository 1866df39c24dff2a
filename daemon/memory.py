"""How the C library keeps memory for the threads of a long-running process."""

import ctypes

M_ARENA_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -8, -1, -3  # of glibc's malloc.h
ARENAS = 2  # glibc would make eight per core, and what a thread freed in one is no use to another

LARGE_BYTES = (
    128 * 1024
)  # glibc's own first values, which it raises to 32 MiB as soon as something large is freed


def share_memory_between_threads() -> bool:
    """Let all threads allocate from two pools; says whether this C library can.

    Request threads come and go. With a pool each, the memory of a large page stays with the thread that
    answered it, and the process grows by half. What is large goes back to the system when it is freed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {M_ARENA_MAX: ARENAS, M_TRIM_THRESHOLD: LARGE_BYTES, M_MMAP_THRESHOLD: LARGE_BYTES}
    return all(mallopt(option, value) == 1 for option, value in wanted.items())
