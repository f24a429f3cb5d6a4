"""Numbers of a large picture as its file holds them: what is looked at turns into float32, nothing else does.

A sub's stars lie on a few per cent of its pixels. To write all of them as float32 would take twice the memory and a
third of the time that reading the file takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nsgd.records import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """An array that is indexed like one of float32 in physical units."""

    raw: NDArray[np.int16]
    """Of any byte order."""
    zero: float
    """Physical value of the number 0 (BZERO), a whole number."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    @property
    def ndim(self) -> int:
        return self.raw.ndim

    @property
    def size(self) -> int:
        return self.raw.size

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, place: Any) -> Pixels:
        return physical(self.raw[place], self.zero)

    def reshape(self, *shape: int) -> Counts:
        """The same numbers in another shape."""
        return Counts(self.raw.reshape(*shape), self.zero)


Light: TypeAlias = Pixels | Counts
"""Pixels that are looked at here and there."""


def physical(raw: NDArray[np.int16], zero: float) -> Pixels:
    """Numbers of a file as float32 in physical units, in one pass."""
    return np.add(raw, np.float32(zero), dtype=np.float32, casting="unsafe")
