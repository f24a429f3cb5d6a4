"""Memory for pixels that is used again from sub to sub.

The kernel would otherwise hand out and clear each colour plane anew, which takes longer than to fill it.
"""

from __future__ import annotations

import math
import mmap
import weakref
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Pixels

LEAST_BYTES = 1 << 23
"""Smaller arrays come cheap."""
MOST_KEPT_BYTES = 1 << 28
_spare: list[mmap.mmap] = []
"""Blocks that nobody uses, the last one given back at the end; the kernel may take their memory where it is short."""
_PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
"""Memory of this process alone comes in large pages, shared memory in small ones."""


def empty(shape: tuple[int, ...]) -> Pixels:
    """`room` for float32."""
    return room(shape, np.dtype(np.float32))


def room(shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    """An array whose memory serves the next one as soon as neither it nor a view of it is left.

    Raises
    ------
    MemoryError
        There is not so much.
    """
    nbytes = kind.itemsize * math.prod(shape)
    if not LEAST_BYTES <= nbytes <= MOST_KEPT_BYTES:
        return np.empty(shape, kind)
    block = _block(nbytes)
    whole = np.frombuffer(block, kind)
    weakref.finalize(whole, _give_back, block).atexit = False
    return whole.reshape(shape)


def _block(nbytes: int) -> mmap.mmap:
    for number, block in enumerate(_spare):
        if len(block) == nbytes:
            return _spare.pop(number)
    try:
        block = mmap.mmap(-1, nbytes, **_PRIVATE)
    except OSError as error:
        raise MemoryError from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_FREE"):
        with suppress(OSError):  # only this block's memory, not what it is used for, hangs on an old kernel
            block.madvise(mmap.MADV_FREE)
    _spare.append(block)
    while sum(len(one) for one in _spare) > MOST_KEPT_BYTES:
        _spare.pop(0)
