"""Monolithic XISF 1.0 files, from the public specification (pixinsight.com/doc/docs/XISF-1.0-spec).

Attached, inline and embedded data blocks; zlib, lz4, lz4hc and zstd with and without byte shuffling;
checksums. A document type, an entity or a location outside the file is refused. Every length is checked
against the picture's geometry and the budget before anything is decompressed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.fits import read_fully, unwritten_pages
from nsgd.frames.header import Card, Value
from nsgd.frames.planes import Decoded, check_budget
from nsgd.frames.source import Source
from nsgd.records import Pixels

MAGIC = b"XISF0100"
MAX_HEADER_BYTES = 16 << 20
MAX_ELEMENTS = 200_000
MAX_DEPTH = 32
MAX_CARDS = 10_000
CHECK_CHUNK_BYTES = 1 << 20

SAMPLES = {"UInt8": "u1", "UInt16": "u2", "UInt32": "u4", "UInt64": "u8", "Float32": "f4", "Float64": "f8"}
CHECKSUMS = {"sha-1", "sha1", "sha-256", "sha256", "sha-512", "sha512", "sha3-256", "sha3-512"}
PROPERTIES = {
    "Observation:Time:Start": "DATE-OBS",
    "Observation:Time:End": "DATE-END",
    "Observation:Object:Name": "OBJECT",
    "Observation:Center:RA": "RA",
    "Observation:Center:Dec": "DEC",
    "Observation:Location:Latitude": "SITELAT",
    "Observation:Location:Longitude": "SITELONG",
    "Instrument:ExposureTime": "EXPTIME",
    "Instrument:Filter:Name": "FILTER",
    "Instrument:Camera:Name": "INSTRUME",
    "Instrument:Camera:Gain": "EGAIN",
    "Instrument:Camera:ISOSpeed": "ISO",
    "Instrument:Camera:XBinning": "XBINNING",
    "Instrument:Sensor:Temperature": "CCD-TEMP",
    "Instrument:Sensor:XPixelSize": "XPIXSZ",
    "XISF:CreatorApplication": "SWCREATE",
}
"""XISF property -> the FITS key that means the same; used where the keyword itself is absent."""


@dataclass(slots=True)
class _Image:
    """The first Image element and what stands in it."""

    attributes: dict[str, str]
    cards: dict[str, Card] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    bayer_pattern: str = ""
    text: list[str] = field(default_factory=list)
    embedded: dict[str, str] | None = None
    embedded_text: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Document:
    image: _Image | None = None
    properties: dict[str, str] = field(default_factory=dict)


# ---- the XML header ------------------------------------------------------------------------------


def read_document(source: Source) -> _Document:
    """The header's content.

    Raises
    ------
    UnreadableFrame
        No XISF, cut off (may be retried), too large, or no XML that we accept.
    """
    return _parse(_header(source))


def _header(source: Source) -> bytes:
    """The XML text; raises UnreadableFrame where there is none (yet)."""
    source.seek(0)
    start = source.read(16)
    if not start.startswith(MAGIC):
        unwritten = MAGIC.startswith(start[:8]) or not start.strip(b"\0")
        raise UnreadableFrame("This is no XISF file: it does not begin with XISF0100.", may_retry=unwritten)
    if len(start) < 16:
        raise UnreadableFrame("The file ends inside its header.", may_retry=True)
    (length,) = struct.unpack("<I", start[8:12])
    if length > MAX_HEADER_BYTES:
        raise UnreadableFrame(f"The XISF header claims {length} bytes.", bytes=length)
    xml = source.read(length)
    if len(xml) < length:
        raise UnreadableFrame("The file ends inside its header.", may_retry=True)
    return xml.rstrip(b"\0")


class _Reader:
    """Handlers of the XML parser; keeps only what a sub needs."""

    def __init__(self) -> None:
        self.document = _Document()
        self._path: list[str] = []
        self._count = 0
        self._in_first_image = False
        self._property: tuple[dict[str, str], str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise UnreadableFrame("The XISF header holds too many elements.")
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name == "Image" and self.document.image is None:
            self.document.image = _Image(attributes)
            self._in_first_image = True
        elif name == "Property":
            self._start_property(attributes)
        elif self._in_first_image and self.document.image is not None and parent == "Image":
            self._start_in_image(self.document.image, name, attributes)

    def _start_in_image(self, image: _Image, name: str, attributes: dict[str, str]) -> None:
        if name == "FITSKeyword" and len(image.cards) < MAX_CARDS:
            key = attributes.get("name", "").strip().upper()
            value, comment = card_value(attributes.get("value", "")), attributes.get("comment", "")
            if key in ("HISTORY", "COMMENT") and key in image.cards:
                image.cards[key] = Card(f"{image.cards[key].value}\n{comment}")
            else:
                image.cards.setdefault(key, Card(comment if key in ("HISTORY", "COMMENT") else value, comment))
        elif name == "ColorFilterArray":
            two_by_two = attributes.get("width", "2") == "2" and attributes.get("height", "2") == "2"
            image.bayer_pattern = attributes.get("pattern", "") if two_by_two else ""
        elif name == "Data":
            image.embedded = attributes

    def _start_property(self, attributes: dict[str, str]) -> None:
        image = self.document.image
        table = image.properties if self._in_first_image and image is not None else self.document.properties
        name = attributes.get("id", "")
        if name not in PROPERTIES:
            return
        if "value" in attributes:
            table.setdefault(name, attributes["value"])
        elif not attributes.get("location", "").startswith(("attachment", "url", "path")):
            self._property = (table, name)

    def text(self, data: str) -> None:
        if self._property is not None:
            table, name = self._property
            table[name] = (table.get(name, "") + data)[:4096]
        elif self._in_first_image and self.document.image is not None:
            if self._path[-1] == "Image":
                self.document.image.text.append(data)
            elif self._path[-1] == "Data":
                self.document.image.embedded_text.append(data)

    def end(self, name: str) -> None:
        name = self._path.pop()
        if name == "Property":
            self._property = None
        elif name == "Image":
            self._in_first_image = False


def _refuse(*_: object) -> None:
    raise UnreadableFrame("The XISF header holds a document type or an entity; such files are not read.")


def _parse(xml: bytes) -> _Document:
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=None)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise UnreadableFrame(f"The XISF header is no valid XML ({expat.errors.messages[error.code]}).") from None
    except (ValueError, LookupError) as error:
        raise UnreadableFrame(f"The XISF header cannot be decoded ({type(error).__name__}).") from None
    return reader.document


def card_value(text: str) -> Value:
    """A FITSKeyword's value: quoted strings as in FITS, bare words as N.I.N.A. writes them."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'").rstrip()
    if text in ("T", "F"):
        return text == "T"
    if re.fullmatch(r"[+-]?\d{1,15}", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d{1,40}(\.\d*)?|\.\d{1,40})([EeDd][+-]?\d{1,4})?", text):
        return float(text.replace("D", "E").replace("d", "e"))
    return text


def _cards(document: _Document) -> dict[str, Card]:
    image = document.image
    if image is None:
        raise NotASub("The XISF file holds no picture.", "other")
    cards = dict(image.cards)
    for table in (image.properties, document.properties):
        for name, value in table.items():
            cards.setdefault(PROPERTIES[name], Card(card_value(value)))
    if "Instrument:Telescope:FocalLength" in image.properties and "FOCALLEN" not in cards:
        metres = card_value(image.properties["Instrument:Telescope:FocalLength"])
        cards["FOCALLEN"] = Card(metres * 1000.0 if isinstance(metres, int | float) else None)
    if "imageType" in image.attributes:
        cards.setdefault("IMAGETYP", Card(image.attributes["imageType"]))
    if image.bayer_pattern:
        cards["BAYERPAT"] = Card(image.bayer_pattern)
        cards.pop("XBAYROFF", None)
        cards.pop("YBAYROFF", None)
    cards["ROWORDER"] = Card("TOP-DOWN")  # XISF knows no other order
    return cards


def read_cards(source: Source) -> dict[str, Card]:
    """Header entries under their FITS names; raises as `read_document`, and NotASub without a picture."""
    return _cards(read_document(source))


def declared_bytes(source: Source) -> int:
    """Bytes up to the end of the last attached block."""
    return max((begin + length for begin, length in _attachments(source)), default=0)


def _attachments(source: Source) -> list[tuple[int, int]]:
    """First byte and length of every attached block; the XML itself is not parsed for that."""
    places = re.findall(rb"attachment:(\d{1,18}):(\d{1,18})", _header(source))
    return [(int(begin), int(length)) for begin, length in places]


def looks_unfinished(source: Source, size: int) -> bool:
    """True where an attached block holds pages that were reserved but not written."""
    return any(
        unwritten_pages(source, begin, min(begin + length, size), 1) > 0 for begin, length in _attachments(source)
    )


# ---- the data block ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """How the pixels are stored."""

    shape: tuple[int, ...]
    """(height, width) or (planes, height, width)."""
    dtype: np.dtype[Any]
    interleaved: bool
    location: str
    codec: str
    shuffled: bool
    parts: tuple[tuple[int, int], ...]
    """Compressed and uncompressed length of every sub-block; () for a single one."""
    checksum: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _block(image: _Image) -> _Block:
    attributes = image.attributes
    shape = _shape(attributes.get("geometry", ""))
    sample = attributes.get("sampleFormat", "")
    if sample not in SAMPLES:
        raise UnreadableFrame("The XISF picture's sample format is not supported.")
    dtype = np.dtype(SAMPLES[sample]).newbyteorder(">" if attributes.get("byteOrder") == "big" else "<")
    stored = attributes
    location = attributes.get("location", "")
    if location == "embedded":
        if image.embedded is None:
            raise UnreadableFrame("The XISF picture's embedded data are missing.")
        stored = image.embedded
        location = f"embedded:{stored.get('encoding', 'base64')}"
    codec, shuffled, nbytes = _compression(stored.get("compression", ""))
    block = _Block(
        shape=shape,
        dtype=dtype,
        interleaved=attributes.get("pixelStorage", "Planar") == "Normal",
        location=location,
        codec=codec,
        shuffled=shuffled,
        parts=_parts(stored.get("subblocks", "")),
        checksum=stored.get("checksum", attributes.get("checksum", "")),
    )
    whole = sum(size for _, size in block.parts) if block.parts else nbytes
    if codec and (nbytes != block.nbytes or whole != block.nbytes):
        raise UnreadableFrame("The XISF picture's compressed length contradicts its geometry.")
    return block


def _shape(geometry: str) -> tuple[int, ...]:
    sides = re.fullmatch(r"(\d{1,6}):(\d{1,6}):(\d{1,3})", geometry)
    if sides is None:
        raise NotASub("The XISF file holds no two-dimensional picture.", "other")
    width, height, planes = (int(side) for side in sides.groups())
    if planes not in (1, 3) or width == 0 or height == 0:
        raise NotASub("The XISF file holds no picture of one or three planes.", "other")
    return (height, width) if planes == 1 else (3, height, width)


def _compression(text: str) -> tuple[str, bool, int]:
    """`zlib+sh:1234:2` -> codec, whether bytes are shuffled, uncompressed length."""
    if not text:
        return "", False, 0
    match = re.fullmatch(r"(zlib|lz4|lz4hc|zstd)(\+sh)?:(\d{1,18})(:\d{1,3})?", text)
    if match is None:
        raise UnreadableFrame("The XISF picture's compression is not supported.")
    return match[1], match[2] is not None, int(match[3])


def _parts(text: str) -> tuple[tuple[int, int], ...]:
    if not text:
        return ()
    if len(text) > 100_000 or re.fullmatch(r"\d{1,18},\d{1,18}(:\d{1,18},\d{1,18})*", text) is None:
        raise UnreadableFrame("The XISF picture's sub-blocks cannot be understood.")
    numbers = [int(number) for number in re.split("[:,]", text)]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def decode(source: Source, budget_bytes: int) -> Decoded:
    """Cards and pixels of the first picture.

    Raises
    ------
    UnreadableFrame, NotASub
        As `read_document`; also for a picture that contradicts itself, fails its checksum, lies outside
        the file or does not fit the budget.
    """
    document = read_document(source)
    cards = _cards(document)
    assert document.image is not None
    block = _block(document.image)
    check_budget(cards, block.shape, budget_bytes, _scratch_bytes(block))
    stored = _stored_bytes(source, block, document.image)
    _verify(stored, block.checksum)
    raw = np.frombuffer(_decompressed(stored, block), block.dtype)
    integer = block.dtype.kind == "u"
    return Decoded(cards, _planes(raw, block), float(np.iinfo(block.dtype).max) if integer else 0.0)


def _scratch_bytes(block: _Block) -> int:
    """Memory needed besides the float32 pixels: the stored block, and what it expands to."""
    kind, _, place = block.location.partition(":")
    stored = _place(place)[1] if kind == "attachment" else MAX_HEADER_BYTES
    if not block.codec:
        return min(stored, block.nbytes)
    return stored + block.nbytes * (2 if block.shuffled or block.parts else 1)


def _place(text: str) -> tuple[int, int]:
    """First byte and length of an attached block."""
    match = re.fullmatch(r"(\d{1,18}):(\d{1,18})", text)
    if match is None:
        raise UnreadableFrame("The XISF picture's data block has no valid place.")
    return int(match[1]), int(match[2])


def _planes(raw: NDArray[Any], block: _Block) -> Pixels:
    if block.interleaved and len(block.shape) == 3:
        planes, height, width = block.shape
        raw = raw.reshape(height, width, planes).transpose(2, 0, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(raw.reshape(block.shape), dtype=np.float32)


def _stored_bytes(source: Source, block: _Block, image: _Image) -> bytes | bytearray:
    kind, _, place = block.location.partition(":")
    if kind == "attachment":
        begin, length = _place(place)
        if not block.codec and length < block.nbytes:
            raise UnreadableFrame("The XISF picture's block has an impossible length.", bytes=length)
        stored = bytearray(length if block.codec else block.nbytes)
        source.seek(begin)
        if not read_fully(source, memoryview(stored)):
            raise UnreadableFrame("The file ended before its last pixel.", may_retry=True)
        return stored
    if kind in ("inline", "embedded"):
        return _from_text("".join(image.text if kind == "inline" else image.embedded_text), place, block)
    raise UnreadableFrame("The XISF picture lies outside of its file; such files are not read.")


def _from_text(text: str, encoding: str, block: _Block) -> bytes:
    try:
        if encoding == "hex":
            stored = bytes.fromhex(text)
        elif encoding == "base64":
            stored = base64.b64decode("".join(text.split()), validate=True)
        else:
            raise UnreadableFrame("The XISF picture's encoding is not supported.")
    except (ValueError, binascii.Error):
        raise UnreadableFrame("The XISF picture's text cannot be decoded.") from None
    if not block.codec and len(stored) != block.nbytes:
        raise UnreadableFrame("The XISF picture's block has an impossible length.", bytes=len(stored))
    return stored


def _verify(stored: bytes | bytearray, checksum: str) -> None:
    """Compare the stated checksum of the stored bytes; a kind that nobody knows is no reason to refuse."""
    kind, _, stated = checksum.partition(":")
    if kind not in CHECKSUMS:
        return
    name = kind.replace("sha-", "sha").replace("sha3-", "sha3_")
    digest = hashlib.new(name, usedforsecurity=False)
    view = memoryview(stored)
    for begin in range(0, len(view), CHECK_CHUNK_BYTES):
        digest.update(view[begin : begin + CHECK_CHUNK_BYTES])
    if digest.hexdigest() != stated.strip().lower():
        raise UnreadableFrame("The XISF picture does not agree with its checksum.", may_retry=True)


def _decompressed(stored: bytes | bytearray, block: _Block) -> bytes | bytearray | NDArray[np.uint8]:
    if not block.codec:
        return stored
    expand = _expander(block.codec)
    parts = block.parts or ((len(stored), block.nbytes),)
    if sum(length for length, _ in parts) > len(stored):
        raise UnreadableFrame("The XISF picture's sub-blocks are longer than the block.")
    view, begin, pieces = memoryview(stored), 0, bytearray()
    for length, size in parts:
        piece = expand(view[begin : begin + length], size)
        if len(piece) != size:
            raise UnreadableFrame("The XISF picture's compressed data are damaged.")
        if len(parts) == 1:
            return _unshuffled(piece, block.dtype.itemsize) if block.shuffled else piece
        pieces += piece
        begin += length
    return _unshuffled(pieces, block.dtype.itemsize) if block.shuffled else pieces


def _unshuffled(data: bytes | bytearray, item_bytes: int) -> NDArray[np.uint8]:
    """Bytes of equal place lie together; put every number's bytes side by side again."""
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(item_bytes, -1).T).reshape(-1)


def _expander(codec: str) -> Callable[[memoryview, int], bytes]:
    """Function (compressed, expected length) -> bytes; never returns many more than expected."""
    if codec == "zlib":
        return _expand_zlib
    if codec == "zstd":
        return _expand_zstd
    return _expand_lz4


def _expand_zlib(data: memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error:
        raise UnreadableFrame("The XISF picture's compressed data are damaged.") from None


def _expand_lz4(data: memoryview, size: int) -> bytes:
    try:
        import lz4.block
    except ImportError:
        raise _missing("lz4") from None
    try:
        return bytes(lz4.block.decompress(data, uncompressed_size=size))
    except lz4.block.LZ4BlockError:
        raise UnreadableFrame("The XISF picture's compressed data are damaged.") from None


def _expand_zstd(data: memoryview, size: int) -> bytes:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise _missing("zstd") from None
    try:
        return bytes(zstd.ZstdDecompressor().decompress(data, size + 1))
    except (zstd.ZstdError, EOFError):
        raise UnreadableFrame("The XISF picture's compressed data are damaged.") from None


def _missing(codec: str) -> UnreadableFrame:
    return UnreadableFrame(f"This XISF file is compressed with {codec}: install it with pip install 'nsgd[xisf]'.")
