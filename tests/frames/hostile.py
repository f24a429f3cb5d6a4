"""Hostile and broken files, made when needed: each with the outcome that it must have.

Run as a script it writes them all into a folder: `python tests/frames/hostile.py FOLDER`.
Outcomes: `frame` (it is measured), `retry` (unreadable, may become readable), `never` (unreadable for good),
`unreadable` (either), or the kind of a file that is no sub.
"""

from __future__ import annotations

import base64
import gzip
import io
import os
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from framefiles import BLOCK, card, data_bytes, header_bytes, mandatory, write_fits, xisf_bytes, xisf_picture

SIDE = 40
PIXELS = np.random.default_rng(4).integers(400, 1600, (SIDE, SIDE)).astype(np.uint16)
DATA = data_bytes(PIXELS)
NOISE = np.random.default_rng(1).integers(0, 256, 20000).astype(np.uint8).tobytes()


@dataclass(frozen=True)
class Case:
    name: str
    suffix: str
    make: Callable[[Path], object]
    outcome: str


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def fits(*lines: str, pixels: np.ndarray = PIXELS, data: bytes | None = None) -> Callable[[Path], object]:
    """A file with extra cards behind (or instead of) the mandatory ones."""
    keys = {line[:8] for line in lines}
    kept = [line for line in mandatory(pixels) if line[:8] not in keys]
    return content(header_bytes([*kept, *lines]) + (data_bytes(pixels) if data is None else data))


def sparse(path: Path, lines: list[str], size: int) -> None:
    with path.open("wb") as file:
        file.write(header_bytes(lines))
        file.truncate(size)


def sized(width: int, height: int, bitpix: int = 16) -> list[str]:
    return [
        card("SIMPLE", True),
        card("BITPIX", bitpix),
        card("NAXIS", 2),
        card("NAXIS1", width),
        card("NAXIS2", height),
    ]


def many_units(count: int) -> bytes:
    unit = header_bytes(
        ["XTENSION= 'IMAGE   '", card("BITPIX", 8), card("NAXIS", 0), card("PCOUNT", 0), card("GCOUNT", 1)]
    )
    return header_bytes(mandatory(PIXELS)) + DATA + unit * count


# ---- plain FITS ----------------------------------------------------------------------------------

FITS = [
    Case("empty", ".fits", content(b""), "retry"),
    Case("one byte", ".fits", content(b"S"), "retry"),
    Case("zeros", ".fits", content(bytes(20000)), "retry"),
    Case("a photograph", ".fits", content(b"\xff\xd8\xff\xe0JFIF" + bytes(5000)), "never"),
    Case("a web page", ".fits", content(b"<html><script>alert(1)</script></html>"), "never"),
    Case("no END", ".fits", content(header_bytes(mandatory(PIXELS), end=False) + DATA), "retry"),
    Case("two megabytes without END", ".fits",
         content(header_bytes([card("SIMPLE", True)] * 26000, end=False)), "never"),
    Case("a million cards", ".fits", content(b"SIMPLE  = T".ljust(80) + b"A       = 1".ljust(80) * 1_000_000), "never"),
    Case("ten thousand cards", ".fits", fits(*[card(f"K{n}", n) for n in range(10_000)]), "frame"),
    Case("the same key ten thousand times", ".fits", fits(*[card("OBJECT", str(n)) for n in range(10_000)]), "frame"),
    Case("a chain of ten thousand CONTINUE", ".fits",
         fits("OBJECT  = 'a&'", *[f"CONTINUE  '{'b' * 60}&'"] * 10_000), "frame"),
    Case("random header", ".fits",
         content(b"SIMPLE  = T".ljust(80) + NOISE), "retry"),
    Case("NAXIS 999", ".fits", fits(card("NAXIS", 999)), "never"),
    Case("NAXIS -1", ".fits", fits(card("NAXIS", -1)), "never"),
    Case("NAXIS 0", ".fits", fits(card("NAXIS", 0)), "other"),
    Case("NAXIS 1", ".fits", fits(card("NAXIS", 1)), "other"),
    Case("four planes", ".fits", fits(card("NAXIS", 3), card("NAXIS3", 4), data=DATA * 4), "other"),
    Case("three planes", ".fits", fits(pixels=np.stack([PIXELS] * 3)), "frame"),
    Case("axes of one pixel behind", ".fits", fits(card("NAXIS", 4), card("NAXIS3", 1), card("NAXIS4", 1)), "frame"),
    Case("negative width", ".fits", fits(card("NAXIS1", -SIDE)), "never"),
    Case("no width", ".fits", fits(card("NAXIS1", 0)), "other"),
    Case("width in quotes", ".fits", fits("NAXIS1  = '40'"), "never"),
    Case("width true", ".fits", fits("NAXIS1  = T"), "never"),
    Case("width with a point", ".fits", fits("NAXIS1  = 40."), "frame"),
    Case("width NaN", ".fits", fits("NAXIS1  = NaN"), "never"),
    Case("one pixel", ".fits", fits(pixels=np.ones((1, 1), np.uint16)), "never"),
    Case("a strip of 15 rows", ".fits", fits(pixels=np.ones((15, 400), np.uint16)), "never"),
    Case("claims 320 GB", ".fits", content(header_bytes(sized(400_000, 400_000))), "never"),
    Case("claims more than 2^63 bytes", ".fits", content(header_bytes(sized(2**40, 2**40, 64))), "never"),
    Case("sparse 3.6 GB", ".fits", lambda path: sparse(path, sized(60_000, 30_000), BLOCK + 3_600_000_000), "never"),
    Case("sparse within the budget", ".fits",
         lambda path: sparse(path, sized(5000, 4000), BLOCK + 40_000_000), "frame"),
    Case("BITPIX 17", ".fits", fits(card("BITPIX", 17)), "never"),
    Case("BITPIX a word", ".fits", fits("BITPIX  = 'sixteen'"), "never"),
    Case("BSCALE 0", ".fits", fits(card("BSCALE", 0)), "never"),
    Case("BSCALE NaN", ".fits", fits("BSCALE  = NaN"), "never"),
    Case("BSCALE huge", ".fits", fits("BSCALE  = 1E308"), "frame"),
    Case("BZERO infinite", ".fits", fits("BZERO   = 1E999"), "never"),
    Case("BLANK a word", ".fits", fits("BLANK   = 'none'"), "never"),
    Case("all missing", ".fits", fits(pixels=np.full((SIDE, SIDE), np.nan, np.float32)), "frame"),
    Case("all infinite", ".fits", fits(pixels=np.full((SIDE, SIDE), np.inf, np.float32)), "frame"),
    Case("beyond float32", ".fits", fits(pixels=np.full((SIDE, SIDE), 1e300)), "frame"),
    Case("all zero", ".fits", fits(pixels=np.zeros((SIDE, SIDE), np.uint16)), "frame"),
    Case("all saturated", ".fits", fits(pixels=np.full((SIDE, SIDE), 65535, np.uint16)), "frame"),
    Case("one byte short", ".fits", fits(data=DATA[: 2 * SIDE * SIDE - 1]), "retry"),
    Case("no padding", ".fits", fits(data=DATA[: 2 * SIDE * SIDE]), "frame"),
    Case("pixels missing", ".fits", fits(data=b""), "retry"),
    Case("preallocated", ".fits", fits(pixels=np.full((200, 200), 32768, np.uint16)), "retry"),
    Case("a hundred units", ".fits", content(many_units(100)), "frame"),
    Case("an extension that claims 10^18 bytes", ".fits",
         content(header_bytes(mandatory(PIXELS)) + DATA + header_bytes(["XTENSION= 'IMAGE   '", card("BITPIX", 8),
                 card("NAXIS", 1), card("NAXIS1", 10**18)])), "frame"),
    Case("an extension of negative length", ".fits",
         content(header_bytes(mandatory(PIXELS)) + DATA + header_bytes(["XTENSION= 'IMAGE   '", card("BITPIX", 8),
                 card("NAXIS", 0), card("PCOUNT", -5000), card("GCOUNT", -3)])), "frame"),
    Case("NUL and ESC in the object", ".fits", fits("OBJECT  = '\x1b]0;owned\x07\x00\x1b[2J M 31'"), "frame"),
    Case("bytes above 127", ".fits",
         content(header_bytes([*mandatory(PIXELS), "OBJECT  = 'M1'"]).replace(b"M1", b"\xe9\xff") + DATA), "frame"),
    Case("bidi and zero width", ".fits", fits("OBJECT  = 'M\u202e13\u200b\u2066'"), "frame"),
    Case("a path as object", ".fits", fits(card("OBJECT", "../../../etc/cron.d/x")), "frame"),
    Case("a formula as object", ".fits", fits(card("OBJECT", "=cmd|' /C calc'!A1")), "frame"),
    Case("markup as object", ".fits", fits(card("OBJECT", "[@click=app.quit]x[/][red]")), "frame"),
    Case("lower-case keys", ".fits", fits("filter  = 'Ha'"), "frame"),
    Case("SIMPLE is false", ".fits", content(header_bytes(mandatory(PIXELS)).replace(b"T", b"F", 1) + DATA), "frame"),
    Case("lines end with CR LF", ".fits",
         content("\r\n".join(mandatory(PIXELS)).encode().ljust(BLOCK) + DATA), "retry"),
    Case("a number of 70 digits", ".fits", fits(f"EXPTIME = {'9' * 60}"), "frame"),
    Case("a dark", ".fits", fits(card("IMAGETYP", "Dark Frame")), "dark"),
    Case("a dark of absurd size", ".fits",
         content(header_bytes([*sized(10**9, 10**9), card("IMAGETYP", "DARK")])), "dark"),
]  # fmt: skip


# ---- compressed FITS -----------------------------------------------------------------------------


def gz_bomb(path: Path) -> None:
    with gzip.open(path, "wb", 9) as file:
        file.write(header_bytes(sized(30_000, 30_000, 8)))
        for _ in range(300):
            file.write(bytes(1_000_000))


def tiled(cards: dict[str, object]) -> Callable[[Path], object]:
    """A tile-compressed file whose cards are then falsified."""
    return lambda path: path.write_bytes(falsified(tile_compressed(PIXELS, "RICE_1", (1, SIDE)), cards))


def tile_compressed(pixels: np.ndarray, codec: str, tile: tuple[int, int]) -> bytes:
    from astropy.io import fits as astropy_fits

    unit = astropy_fits.CompImageHDU(pixels, compression_type=codec, tile_shape=tile)
    buffer = io.BytesIO()
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), unit]).writeto(buffer)
    return buffer.getvalue()


def hcompressed(old: bytes, new: bytes) -> Callable[[Path], object]:
    """An HCOMPRESS file, with bytes of its first tile replaced."""

    def make(path: Path) -> None:
        data = tile_compressed(PIXELS, "HCOMPRESS_1", (SIDE, SIDE))
        at = data.index(b"\xdd\x99")
        path.write_bytes(data[:at] + data[at:].replace(old, new, 1))

    return make


def tile_bomb(codec: str, width: int, height: int) -> Callable[[Path], object]:
    """A flat picture in large tiles: a few kilobytes that expand to hundreds of megabytes."""

    def make(path: Path) -> None:
        rows = height // 50
        small = tile_compressed(np.zeros((rows, width), np.int16), codec, (min(16, rows), width))
        path.write_bytes(falsified(small, {"ZNAXIS2": height, "ZTILE2": height}))

    return make


def falsified(content: bytes, cards: dict[str, object]) -> bytes:
    data = bytearray(content)
    for key, value in cards.items():
        at = data.index(f"{key:<8}=".encode())
        data[at : at + 80] = card(key, value).encode().ljust(80)
    return bytes(data)


COMPRESSED = [
    Case("gz bomb over the budget", ".fits.gz", gz_bomb, "never"),
    Case("gz of nothing", ".fits.gz", content(gzip.compress(b"")), "retry"),
    Case("gz of noise", ".fits.gz", content(gzip.compress(os.urandom(5000))), "never"),
    Case("gz cut", ".fits.gz", content(gzip.compress(header_bytes(mandatory(PIXELS)) + DATA)[:1500]), "retry"),
    Case("gz damaged", ".fits.gz",
         content(gzip.compress(header_bytes(mandatory(PIXELS)) + DATA)[:400] + bytes(4000)), "unreadable"),
    Case("no gz at all", ".fits.gz", content(header_bytes(mandatory(PIXELS)) + DATA), "never"),
    Case("gz with a name of a megabyte", ".fits.gz",
         content(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 1_000_000), "retry"),
    Case("fz without a picture", ".fits.fz", fits(), "other"),
    Case("fz picture claims 10^12 pixels", ".fits.fz", tiled({"ZNAXIS1": 10**6, "ZNAXIS2": 10**6}), "never"),
    Case("fz negative size", ".fits.fz", tiled({"ZNAXIS1": -5}), "never"),
    Case("fz tiles of nothing", ".fits.fz", tiled({"ZTILE1": 0}), "never"),
    Case("fz tiles of a word", ".fits.fz", tiled({"ZTILE1": "wide"}), "never"),
    Case("fz tile larger than memory", ".fits.fz", tiled({"ZTILE1": 10**9, "ZTILE2": 10**9}), "never"),
    Case("fz unknown codec", ".fits.fz", tiled({"ZCMPTYPE": "MAGIC_9"}), "unreadable"),
    Case("fz other size than its tiles", ".fits.fz", tiled({"ZNAXIS1": 4000, "ZNAXIS2": 4000}), "unreadable"),
    Case("fz wrong number type", ".fits.fz", tiled({"ZBITPIX": 17}), "never"),
    Case("fz heap outside the file", ".fits.fz", tiled({"PCOUNT": 10**9}), "unreadable"),
    Case("fz rows that are not there", ".fits.fz", tiled({"NAXIS2": 10**7}), "unreadable"),
    Case("fz rice blocks of nothing", ".fits.fz", tiled({"ZVAL1": 0}), "unreadable"),
    Case("fz cut", ".fits.fz", content(tile_compressed(PIXELS, "RICE_1", (1, SIDE))[:-2880]), "retry"),
    Case("fz HCOMPRESS tile that never began", ".fits.fz", hcompressed(b"\xdd\x99", bytes(2)), "unreadable"),
    Case("fz HCOMPRESS tile larger than its place", ".fits.fz",
         hcompressed(SIDE.to_bytes(4, "big"), (40 * SIDE).to_bytes(4, "big")), "unreadable"),
    Case("fz HCOMPRESS with too few tiles", ".fits.fz",
         lambda path: path.write_bytes(
             falsified(tile_compressed(PIXELS, "HCOMPRESS_1", (SIDE, SIDE)), {"ZNAXIS2": 2 * SIDE})), "unreadable"),
    Case("fz HCOMPRESS bomb", ".fits.fz", tile_bomb("HCOMPRESS_1", 20_000, 16_000), "unreadable"),
    Case("fz RICE bomb", ".fits.fz", tile_bomb("RICE_1", 20_000, 16_000), "unreadable"),
    Case("fz GZIP bomb", ".fits.fz", tile_bomb("GZIP_1", 20_000, 16_000), "unreadable"),
]  # fmt: skip


# ---- XISF ----------------------------------------------------------------------------------------


def xisf(attributes: str, inside: str = "", blocks: bytes = PIXELS.tobytes()) -> Callable[[Path], object]:
    return content(xisf_bytes(xisf_picture(attributes, inside), blocks))


def picture(**changes: str) -> Callable[[Path], object]:
    attributes = {"geometry": f"{SIDE}:{SIDE}:1", "sampleFormat": "UInt16",
                  "location": f"attachment:{{at}}:{PIXELS.nbytes}", **changes}  # fmt: skip
    return xisf(" ".join(f'{key}="{value}"' for key, value in attributes.items()))


def packed(
    data: bytes, compression: str, geometry: str = f"{SIDE}:{SIDE}:1", more: str = ""
) -> Callable[[Path], object]:
    return xisf(
        f'geometry="{geometry}" sampleFormat="UInt16" compression="{compression}" {more} '
        f'location="attachment:{{at}}:{len(data)}"',
        blocks=data,
    )


LAUGHS = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMB = zlib.compress(bytes(200_000_000), 9)

XISF = [
    Case("xisf whole", ".xisf", picture(), "frame"),
    Case("xisf empty", ".xisf", content(b""), "retry"),
    Case("xisf magic only", ".xisf", content(b"XISF0100"), "retry"),
    Case("xisf of a photograph", ".xisf", content(b"\xff\xd8" + bytes(100)), "never"),
    Case("xisf header of 4 GB", ".xisf", content(b"XISF0100" + b"\xff" * 8 + b"<xisf/>"), "never"),
    Case("xisf header longer than the file", ".xisf", content(xisf_bytes("<xisf/>", stated_length=90_000)), "retry"),
    Case("xisf header of nothing", ".xisf", content(b"XISF0100" + bytes(8)), "never"),
    Case("xisf no XML", ".xisf", content(xisf_bytes("hello & goodbye <")), "never"),
    Case("xisf a thousand million laughs", ".xisf", content(xisf_bytes(f"{LAUGHS}]><xisf>&i;</xisf>")), "never"),
    Case("xisf quadratic blow-up", ".xisf",
         content(xisf_bytes(f'<!DOCTYPE x [<!ENTITY a "{"a" * 90_000}">]><xisf>{"&a;" * 9000}</xisf>')), "never"),
    Case("xisf external entity", ".xisf",
         content(xisf_bytes('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xisf>&a;</xisf>')), "never"),
    Case("xisf deep", ".xisf", content(xisf_bytes("<a>" * 20_000 + "</a>" * 20_000)), "never"),
    Case("xisf a million elements", ".xisf", content(xisf_bytes(f"<xisf>{'<a/>' * 1_000_000}</xisf>")), "never"),
    Case("xisf unknown coding", ".xisf",
         content(xisf_bytes('<?xml version="1.0" encoding="klingon"?><xisf/>')), "never"),
    Case("xisf UTF-16", ".xisf",
         content(b"XISF0100" + struct.pack("<II", 16, 0) + "<xisf/>".encode("utf-16")), "never"),
    Case("xisf bad UTF-8", ".xisf", content(xisf_bytes("<xisf a='é'/>").replace(b"\xc3\xa9", b"\xff\xfe")), "never"),
    Case("xisf no picture", ".xisf", content(xisf_bytes("<xisf/>")), "other"),
    Case("xisf geometry of a word", ".xisf", picture(geometry="wide:high:1"), "other"),
    Case("xisf negative geometry", ".xisf", picture(geometry="-40:40:1"), "other"),
    Case("xisf no pixels", ".xisf", picture(geometry="0:40:1"), "other"),
    Case("xisf nine planes", ".xisf", picture(geometry="40:40:9"), "other"),
    Case("xisf claims 10^12 pixels", ".xisf", picture(geometry="999999:999999:1"), "never"),
    Case("xisf complex numbers", ".xisf", picture(sampleFormat="Complex32"), "never"),
    Case("xisf block behind the end", ".xisf", picture(location=f"attachment:999999999:{PIXELS.nbytes}"), "retry"),
    Case("xisf block without place", ".xisf", picture(location="attachment:-5:x"), "never"),
    Case("xisf block too short", ".xisf", picture(location="attachment:{at}:100"), "never"),
    Case("xisf block of 10^18 bytes", ".xisf", picture(location="attachment:16:999999999999999999"), "frame"),
    Case("xisf path()", ".xisf", picture(location="path(/etc/passwd):0:100"), "never"),
    Case("xisf url()", ".xisf", picture(location="url(http://127.0.0.1:9/x)"), "never"),
    Case("xisf wrong checksum", ".xisf", picture(checksum="sha-1:0000"), "retry"),
    Case("xisf unknown checksum", ".xisf", picture(checksum="md5:0000"), "frame"),
    Case("xisf inline garbage", ".xisf", picture(location="inline:base64"), "never"),
    Case("xisf inline unknown", ".xisf", picture(location="inline:rot13"), "never"),
    Case("xisf embedded nothing", ".xisf", picture(location="embedded"), "never"),
    Case("xisf unknown codec", ".xisf", packed(b"x" * 100, "brotli:3200"), "never"),
    Case("xisf zlib bomb that states it", ".xisf", packed(BOMB, "zlib:200000000"), "never"),
    Case("xisf zlib bomb that hides it", ".xisf", packed(BOMB, "zlib:3200"), "never"),
    Case("xisf zlib garbage", ".xisf", packed(b"x" * 1000, "zlib:3200"), "never"),
    Case("xisf zlib too short", ".xisf", packed(zlib.compress(bytes(10)), "zlib:3200"), "never"),
    Case("xisf lz4 garbage", ".xisf", packed(b"\xff" * 1000, "lz4:3200"), "never"),
    Case("xisf lz4 bomb", ".xisf", packed(b"\x1f\0\1\0" + b"\xff" * 800_000 + b"\0", "lz4hc:3200"), "never"),
    Case("xisf zstd garbage", ".xisf", packed(b"x" * 1000, "zstd:3200"), "never"),
    Case("xisf zstd of a huge window", ".xisf", packed(b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(100), "zstd:3200"), "never"),
    Case("xisf shuffled by 7", ".xisf", packed(zlib.compress(PIXELS.tobytes()), "zlib+sh:3200:7"), "frame"),
    Case("xisf sub-blocks that lie", ".xisf",
         packed(zlib.compress(PIXELS.tobytes()), "zlib:3200", more='subblocks="9999999,3200"'), "never"),
    Case("xisf sub-blocks of words", ".xisf",
         packed(zlib.compress(PIXELS.tobytes()), "zlib:3200", more='subblocks="a,b:c"'), "never"),
    Case("xisf twenty thousand sub-blocks", ".xisf",
         packed(b"x", "zlib:3200", more=f'subblocks="{":".join(["0,0"] * 20_000)}"'), "never"),
    Case("xisf dark", ".xisf",
         xisf('geometry="9:9:1" imageType="Dark" sampleFormat="UInt16" location="attachment:{at}:9"'), "dark"),
    Case("xisf inline base64 of 15 MB", ".xisf",
         xisf(f'geometry="{SIDE}:{SIDE}:1" sampleFormat="UInt16" location="inline:base64"',
              base64.b64encode(bytes(11_000_000)).decode()), "never"),
]  # fmt: skip


# ---- pictures of ordinary cameras ----------------------------------------------------------------


def tiff_directory(*entries: tuple[int, int, int, int], next_at: int = 0) -> bytes:
    packed_entries = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed_entries + struct.pack("<I", next_at)


def tiff(width: int, height: int, compression: int = 1, next_at: int = 0) -> Callable[[Path], object]:
    head = tiff_directory(
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, PIXELS.nbytes), next_at=next_at,
    )  # fmt: skip
    return content(head.ljust(200, b"\0") + PIXELS.tobytes())


CAMERA = [
    Case("tiff whole", ".tif", tiff(SIDE, SIDE), "frame"),
    Case("tiff empty", ".tif", content(b""), "retry"),
    Case("tiff zeros", ".tif", content(bytes(5000)), "retry"),
    Case("tiff of a web page", ".tif", content(b"<html></html>"), "never"),
    Case("tiff magic only", ".tif", content(b"II*\0"), "unreadable"),
    Case("tiff directory behind the end", ".tif", content(b"II*\0\xff\xff\xff\x7f"), "unreadable"),
    Case("tiff directory that loops", ".tif", tiff(SIDE, SIDE, next_at=8), "frame"),
    Case("tiff claims 10^10 pixels", ".tif", tiff(100_000, 100_000), "never"),
    Case("tiff unknown compression", ".tif", tiff(SIDE, SIDE, compression=34712), "unreadable"),
    Case("tiff pixels missing", ".tif", content(b"II*\0" + os.urandom(60)), "unreadable"),
    Case("raw of noise", ".cr2", content(b"II*\0\x10\0\0\0CR\2\0" + os.urandom(5000)), "unreadable"),
    Case("raw empty", ".nef", content(b""), "unreadable"),
    Case("raw of a photograph", ".arw", content(b"\xff\xd8\xff\xe0" + bytes(4000)), "unreadable"),
    Case("raw cr3 boxes that lie", ".cr3",
         content(b"\0\0\0\x18ftypcrx " + b"CMT1CMT2II*\0\xff\xff\xff\xff" * 50), "unreadable"),
]  # fmt: skip


# ---- names and places ----------------------------------------------------------------------------


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have 107 characters only
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


PLACES = [
    Case("fifo", ".fits", lambda path: os.mkfifo(path), "never"),
    Case("folder", ".fits", lambda path: path.mkdir(), "never"),
    Case("socket", ".fits", listening_socket, "unreadable"),
    Case("link to itself", ".fits", lambda path: path.symlink_to(path), "unreadable"),
    Case("link to nothing", ".fits", lambda path: path.symlink_to("nowhere.fits"), "never"),
    Case("link to an endless device", ".fits", lambda path: path.symlink_to("/dev/zero"), "never"),
    Case("not there", ".fits", lambda path: None, "never"),
    Case("newline\nand \x1b[31mESC", ".fits", fits(), "frame"),
    Case("x" * 240, ".fits", fits(), "frame"),
    Case(os.fsdecode(b"not utf-8 \xe9\xff"), ".fits", fits(), "frame"),
    Case("no format", ".exe", content(b"MZ"), "never"),
]

CASES = [*FITS, *COMPRESSED, *XISF, *CAMERA, *PLACES]


def write_all(folder: Path) -> list[tuple[Path, Case]]:
    """Every case as a file of its own below `folder`."""
    written = []
    for number, case in enumerate(CASES):
        path = folder / f"{number:03d} {case.name}"[:230]
        path = path.with_name(path.name + case.suffix)
        case.make(path)
        written.append((path, case))
    return written


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_all(target)
    write_fits(target / "good.fits", PIXELS)
