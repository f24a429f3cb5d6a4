"""Memory for pixels that is used again from sub to sub.

The kernel would otherwise hand out and clear each colour plane anew, which takes longer than to fill it.
"""

from __future__ import annotations

import math
import mmap
import weakref

import numpy as np

from nsgd.records import Pixels

LEAST_BYTES, LARGEST_BYTES = 1 << 23, 1 << 26
"""Smaller arrays come cheap; larger ones (a whole picture, of which a Bayer sub's planes are made) are not kept, since
they would lie idle while what was made of them needs the memory."""
MOST_KEPT_BYTES = 1 << 28
_spare: list[mmap.mmap] = []
"""Blocks that nobody uses, the last one given back at the end."""


def empty(shape: tuple[int, ...]) -> Pixels:
    """An array of float32 whose memory serves the next one as soon as neither it nor a view of it is left.

    Raises
    ------
    MemoryError
        There is not so much.
    """
    count = math.prod(shape)
    if not LEAST_BYTES <= 4 * count <= LARGEST_BYTES:
        return np.empty(shape, np.float32)
    block = _block(4 * count)
    whole = np.frombuffer(block, np.float32)
    weakref.finalize(whole, _give_back, block).atexit = False
    return whole.reshape(shape)


def _block(nbytes: int) -> mmap.mmap:
    for number, block in enumerate(_spare):
        if len(block) == nbytes:
            return _spare.pop(number)
    try:
        block = mmap.mmap(-1, nbytes)
    except OSError as error:
        raise MemoryError from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    _spare.append(block)
    while sum(len(one) for one in _spare) > MOST_KEPT_BYTES:
        _spare.pop(0)
