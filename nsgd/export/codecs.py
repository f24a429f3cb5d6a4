"""The compressions of PixInsight's .xnml files: zlib always, LZ4 by a few lines of our own, zstd where present."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Final


def decompress(codec: str, packed: bytes, size: int) -> bytes:
    """Unpack one block.

    Parameters
    ----------
    codec
        zlib, lz4, lz4hc or zstd.
    size
        Bytes that come out; never more are made.

    Raises
    ------
    ValueError
        The codec is not known or not installed, or the block is damaged.
    """
    if codec not in _CODECS:
        raise ValueError(f"{codec!r} is not a compression of this format")
    raw = _CODECS[codec](packed, size)
    if len(raw) != size:
        raise ValueError(f"a {codec} block gave {len(raw)} bytes, {size} expected")
    return raw


def _zlib(packed: bytes, size: int) -> bytes:
    return zlib.decompressobj().decompress(packed, size + 1)  # one byte too many shows a false size


def lz4_block(packed: bytes, size: int) -> bytes:
    """Decode a raw LZ4 block (no frame header), as its public block format description says.

    Sequences of a token, literals, and a match: 4 bits each for the lengths, 255 continues one, offsets are two bytes.
    """
    out = bytearray()
    at = 0
    while at < len(packed):
        token = packed[at]
        at, length = _length(packed, at + 1, token >> 4)
        out += packed[at : at + length]
        at += length
        if at >= len(packed):
            break
        offset = int.from_bytes(packed[at : at + 2], "little")
        at, length = _length(packed, at + 2, token & 15)
        if not 0 < offset <= len(out) or len(out) + length + 4 > size:
            raise ValueError("the LZ4 block is damaged")
        _repeat(out, offset, length + 4)
    return bytes(out)


def _length(packed: bytes, at: int, length: int) -> tuple[int, int]:
    if length < 15:
        return at, length
    while at < len(packed):
        more = packed[at]
        at += 1
        length += more
        if more < 255:
            return at, length
    raise ValueError("the LZ4 block ends in a length")


def _repeat(out: bytearray, offset: int, length: int) -> None:
    """Append `length` bytes from `offset` behind the end; they may overlap what is being appended."""
    piece = out[-offset:] if length > offset else out[-offset : len(out) - offset + length]
    times = -(-length // len(piece))
    out += (piece * times)[:length]


def _zstd(packed: bytes, size: int) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return bytes(module.ZstdDecompressor().decompress(packed, size))
        except module.ZstdError as error:
            raise ValueError(f"the zstd block is damaged ({error})") from error
    raise ValueError("zstd needs a package: pip install 'nsgd[xisf]'")


_CODECS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "zlib": _zlib,
    "lz4": lz4_block,
    "lz4hc": lz4_block,
    "zstd": _zstd,
}
