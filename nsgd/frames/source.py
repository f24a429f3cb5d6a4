"""What a reader needs of a file: also a decompressing stream is one."""

from __future__ import annotations

from typing import Any, Protocol


class Readable(Protocol):
    """A seekable stream of bytes."""

    def read(self, size: int = ..., /) -> bytes: ...

    def seek(self, offset: int, whence: int = ..., /) -> int: ...


class Source(Readable, Protocol):
    """One that can also fill a buffer."""

    def readinto(self, buffer: Any, /) -> int | None: ...
