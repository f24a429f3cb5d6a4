"""Records as text and bytes, exactly: what the store writes is what it reads, bit for bit.

Text is JSON that leaves out whatever equals the record's default, so rows of older programs stay readable when a
record gains a field. Bytes are a JSON head and raw little-endian arrays. Checksums are the store's, one a row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, TypeVar

from nsgd.errors import StoreDamaged
from nsgd.records import (
    Alert,
    Catalogue,
    Failure,
    FrameKind,
    HeaderFacts,
    Relation,
    SeriesRow,
    SubFacts,
    SubRow,
    Transform,
)

Record = TypeVar("Record")

_VERSION = b"NSGD1\0\0\0"
_NONE = object()


def dumps(value: object) -> str:
    """JSON text; numbers of numpy are written as Python's."""
    return json.dumps(value, separators=(",", ":"), default=_plain)


def pack(record: object, leave_out: frozenset[str] = frozenset()) -> str:
    """A record's fields as JSON, without those equal to their default."""
    return dumps(_fields_of(record, leave_out))


def unpack(kind: type[Record], text: str) -> Record:
    """The record that `pack` wrote; fields that this program does not know are left out.

    Raises
    ------
    StoreDamaged
        The text is no such record.
    """
    return build(kind, loads(text))


def loads(text: str) -> Any:
    """What a JSON text of the store says; StoreDamaged where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoreDamaged(f"A text in the store cannot be read: {error}.") from error


def build(kind: type[Record], read: dict[str, Any]) -> Record:
    """The record of fields read from JSON, with the types put back that JSON does not have; uses up `read`."""
    known, restore = _SHAPES[kind]
    for name, mend in restore:
        if name in read:
            read[name] = mend(read[name])
    try:
        return kind(**read)
    except TypeError:
        # A newer program's field, or no such record at all: the second look tells.
        pass
    try:
        return kind(**{name: value for name, value in read.items() if name in known})
    except TypeError as error:
        raise StoreDamaged(f"A {kind.__name__} in the store cannot be read: {error}.") from error


def to_bytes(record: SubFacts | Catalogue) -> bytes:
    """Facts or catalogue as compact bytes: version, length of the head, head, arrays (each at a multiple of 8)."""
    import numpy as np  # here, since rows of scalars need none of it

    arrays = [(f.name, getattr(record, f.name)) for f in fields(record) if f.name in _ARRAYS[type(record)]]
    head = {
        "fields": _fields_of(record, _ARRAYS[type(record)]),
        "arrays": [(name, array.dtype.newbyteorder("<").str, array.shape) for name, array in arrays],
    }
    text = dumps(head).encode("ascii")
    text += b" " * (-(len(text) + len(_VERSION) + 8) % 8)
    parts = [_VERSION, len(text).to_bytes(8, "little"), text]
    for _, array in arrays:
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        parts += [raw, b"\0" * (-len(raw) % 8)]
    return b"".join(parts)


def from_bytes(kind: type[Record], blob: bytes) -> Record:
    """The record that `to_bytes` wrote; its arrays cannot be written to.

    Raises
    ------
    StoreDamaged
        The bytes are no such record.
    """
    import numpy as np

    if blob[:8] != _VERSION:
        raise StoreDamaged(f"A {kind.__name__} in the store cannot be read: its format is not known.")
    start = 16 + int.from_bytes(blob[8:16], "little")
    head = json.loads(blob[16:start])
    values = head["fields"]
    for name, dtype, shape in head["arrays"]:
        array = np.frombuffer(blob, dtype, math.prod(shape), start).reshape(shape)
        values[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
        start += -(-array.nbytes // 8) * 8
    return build(kind, values)


def _fields_of(record: object, leave_out: frozenset[str]) -> dict[str, Any]:
    found = {}
    for name, default in _defaults(type(record)):  # type: ignore[arg-type]
        value = getattr(record, name)
        if name not in leave_out and not _same(value, default):
            found[name] = _fields_of(value, frozenset()) if isinstance(value, Transform) else value
    return found


@cache
def _defaults(kind: type[Any]) -> tuple[tuple[str, object], ...]:
    """Names and defaults of a record's fields."""
    return tuple((item.name, _default(item)) for item in fields(kind))


def _default(item: Field[Any]) -> object:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else _NONE


def _same(value: object, default: object) -> bool:
    if default is _NONE or type(value) is not type(default):
        return False
    if isinstance(value, float) and isinstance(default, float):
        return repr(value) == repr(default)  # NaN is NaN, and -0.0 is not 0.0
    return value == default


def _plain(value: Any) -> object:
    return value.item()  # numpy's scalars; anything else is a mistake and says so


def _transform(read: dict[str, Any]) -> Transform:
    return build(Transform, read)


def _shape(kind: type) -> tuple[frozenset[str], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    """Names of a record's fields, and how to put back those that JSON changes."""
    mend: list[tuple[str, Callable[[Any], Any]]] = []
    for item in fields(kind):
        if str(item.type).startswith("tuple"):
            mend.append((item.name, tuple))
        elif item.type == "Transform":
            mend.append((item.name, _transform))
        elif item.type == "FrameKind":
            mend.append((item.name, FrameKind))
    return frozenset(item.name for item in fields(kind)), tuple(mend)


_SHAPES: dict[type, tuple[frozenset[str], tuple[tuple[str, Callable[[Any], Any]], ...]]] = {
    kind: _shape(kind)
    for kind in (HeaderFacts, Transform, Catalogue, SubFacts, Failure, Relation, SubRow, SeriesRow, Alert)
}
_ARRAYS = {
    kind: frozenset(item.name for item in fields(kind) if str(item.type).startswith(("Floats", "Flags")))
    for kind in (Catalogue, SubFacts)
}
