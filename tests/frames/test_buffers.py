"""Memory of pixels that is used again."""

from __future__ import annotations

import numpy as np

from nsgd.frames.buffers import LEAST_BYTES, empty

SHAPE = (3, LEAST_BYTES // 4)


def address(array: np.ndarray) -> int:  # type: ignore[type-arg]
    return int(array.__array_interface__["data"][0])


def test_memory_is_used_again_only_when_no_view_of_it_is_left() -> None:
    first = empty(SHAPE)
    place, view = address(first), first[1, 10:20]
    view[:] = 7.0
    del first
    second = empty(SHAPE)
    second[:] = 0.0
    assert (view == 7.0).all()
    assert address(second) != place
    del view
    third = empty(SHAPE)
    assert address(third) == place
    assert third.dtype == np.float32
    assert third.shape == SHAPE
