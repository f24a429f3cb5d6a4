"""Own XISF reader against files of the `xisf` package, of N.I.N.A.'s style, and hand-made ones."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from framefiles import noise, write_fits, xisf_bytes, xisf_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from nsgd.errors import FileProblem, NotASub, UnreadableFrame
from nsgd.frames.read import is_whole, looks_unfinished, read_frame
from nsgd.frames.xisf import card_value, decode, read_cards

BUDGET = 100_000_000
CODECS = [None, "zlib", "lz4", "lz4hc", "zstd"]


def decoded(content: bytes) -> np.ndarray:
    return decode(io.BytesIO(content), BUDGET).pixels


def shuffled(raw: bytes, item: int) -> bytes:
    return np.frombuffer(raw, np.uint8).reshape(-1, item).T.tobytes()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4", "f8"])
def test_files_of_the_xisf_package_are_read(
    tmp_path: Path, rng: np.random.Generator, codec: str | None, shuffle: bool, dtype: str
) -> None:
    writer = pytest.importorskip("xisf").XISF
    kind = np.dtype(dtype)
    pixels = (
        rng.random((40, 30, 1)).astype(kind) if kind.kind == "f" else rng.integers(0, 250, (40, 30, 1)).astype(kind)
    )
    path = tmp_path / "a.xisf"
    keywords = {"FILTER": [{"value": "'Ha'", "comment": "filter"}], "EXPTIME": [{"value": "300.", "comment": ""}]}
    writer.write(str(path), pixels, image_metadata={"FITSKeywords": keywords}, codec=codec, shuffle=shuffle)
    with path.open("rb") as file:
        found = decode(file, BUDGET)
    assert np.array_equal(found.pixels, pixels[:, :, 0].astype(np.float32))
    assert (found.cards["FILTER"].value, found.cards["EXPTIME"].value) == ("Ha", 300.0)
    assert is_whole(path, path.stat().st_size) is True
    assert is_whole(path, path.stat().st_size - 1) is False


def test_a_colour_picture_is_read_in_both_storage_orders(rng: np.random.Generator) -> None:
    planes = rng.integers(0, 60000, (3, 20, 30)).astype("<u2")
    for storage, raw in (("Planar", planes.tobytes()), ("Normal", planes.transpose(1, 2, 0).tobytes())):
        xml = xisf_picture(
            f'geometry="30:20:3" sampleFormat="UInt16" colorSpace="RGB" pixelStorage="{storage}" '
            f'location="attachment:{{at}}:{len(raw)}"'
        )
        assert np.array_equal(decoded(xisf_bytes(xml, raw)), planes)


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_are_read(rng: np.random.Generator, order: str) -> None:
    pixels = noise(rng, 20, 30)
    raw = pixels.astype("<u2" if order == "little" else ">u2").tobytes()
    xml = xisf_picture(
        f'geometry="30:20:1" sampleFormat="UInt16" byteOrder="{order}" location="attachment:{{at}}:{len(raw)}"'
    )
    assert np.array_equal(decoded(xisf_bytes(xml, raw)), pixels)


@pytest.mark.parametrize("encoding", ["base64", "hex"])
@pytest.mark.parametrize("place", ["inline", "embedded"])
def test_blocks_inside_the_header_are_read(rng: np.random.Generator, encoding: str, place: str) -> None:
    pixels = noise(rng, 20, 30)
    packed = zlib.compress(pixels.tobytes())
    text = packed.hex() if encoding == "hex" else base64.encodebytes(packed).decode()
    compression = f'compression="zlib:{pixels.nbytes}"'
    if place == "inline":
        xml = xisf_picture(f'geometry="30:20:1" sampleFormat="UInt16" location="inline:{encoding}" {compression}', text)
    else:
        xml = xisf_picture(
            'geometry="30:20:1" sampleFormat="UInt16" location="embedded"',
            f'<Data encoding="{encoding}" {compression}>{text}</Data>',
        )
    assert np.array_equal(decoded(xisf_bytes(xml)), pixels)


def test_sub_blocks_are_joined(rng: np.random.Generator) -> None:
    pixels = noise(rng, 40, 30)
    raw = shuffled(pixels.tobytes(), 2)
    pieces = [raw[:1000], raw[1000:2000], raw[2000:]]
    packed = [zlib.compress(piece) for piece in pieces]
    sizes = ":".join(f"{len(small)},{len(large)}" for small, large in zip(packed, pieces, strict=True))
    xml = xisf_picture(
        f'geometry="30:40:1" sampleFormat="UInt16" compression="zlib+sh:{len(raw)}:2" subblocks="{sizes}" '
        f'location="attachment:{{at}}:{sum(map(len, packed))}"'
    )
    assert np.array_equal(decoded(xisf_bytes(xml, b"".join(packed))), pixels)


@pytest.mark.parametrize(
    ("name", "function"),
    [("sha-1", "sha1"), ("sha1", "sha1"), ("sha-256", "sha256"), ("sha-512", "sha512"), ("sha3-256", "sha3_256"),
     ("sha3-512", "sha3_512")],
)  # fmt: skip
def test_checksums_are_believed_only_when_they_agree(rng: np.random.Generator, name: str, function: str) -> None:
    pixels = noise(rng, 20, 30)
    raw = pixels.tobytes()
    sum_ = hashlib.new(function, raw).hexdigest()

    def file_with(stated: str) -> bytes:
        return xisf_bytes(
            xisf_picture(
                f'geometry="30:20:1" sampleFormat="UInt16" checksum="{name}:{stated}" '
                f'location="attachment:{{at}}:{len(raw)}"'
            ),
            raw,
        )

    assert np.array_equal(decoded(file_with(sum_)), pixels)
    with pytest.raises(UnreadableFrame, match="checksum"):
        decoded(file_with(sum_[::-1]))


def test_cards_come_from_keywords_and_properties() -> None:
    xml = xisf_picture(
        'geometry="30:20:1" sampleFormat="UInt16" imageType="Light" location="attachment:{at}:1200"',
        """<FITSKeyword name="IMAGETYP" value="LIGHT" comment="Type of exposure"/>
        <FITSKeyword name="OBJECT" value="'O''Neill'" comment="" />
        <FITSKeyword name="GAIN" value="100" comment="Sensor gain" />
        <FITSKeyword name="HISTORY" value="" comment="ImageCalibration.enableMasterDark: true" />
        <Property id="Observation:Time:Start" type="TimePoint" value="2026-11-22T22:10:05.647" />
        <Property id="Instrument:Filter:Name" type="String">Ha</Property>
        <Property id="Instrument:ExposureTime" type="Float32" value="300" />
        <Property id="Instrument:Telescope:FocalLength" type="Float32" value="0.53" />
        <ColorFilterArray pattern="GBRG" width="2" height="2" />""",
    )
    cards = {key: card.value for key, card in read_cards(io.BytesIO(xisf_bytes(xml))).items()}
    assert cards["OBJECT"] == "O'Neill"
    assert cards["GAIN"] == 100
    assert cards["DATE-OBS"] == "2026-11-22T22:10:05.647"
    assert (cards["FILTER"], cards["EXPTIME"], cards["BAYERPAT"]) == ("Ha", 300, "GBRG")
    assert "ImageCalibration" in str(cards["HISTORY"])


def test_an_xisf_copy_of_a_sub_is_the_same_sub(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = noise(rng)
    fits = read_frame(write_fits(tmp_path / "a.fits", pixels, [("DATE-OBS", "2026-11-22T22:10:05")]))
    xml = xisf_picture(
        f'geometry="80:60:1" sampleFormat="UInt16" location="attachment:{{at}}:{pixels.nbytes}"',
        '<FITSKeyword name="DATE-OBS" value="\'2026-11-22T22:10:05\'" comment=""/>',
    )
    (tmp_path / "a.xisf").write_bytes(xisf_bytes(xml, pixels.tobytes()))
    copy = read_frame(tmp_path / "a.xisf")
    assert copy.content_id == fits.content_id
    assert copy.saturation_adu == 65535.0
    assert np.array_equal(copy.planes[0].pixels, pixels)


def test_a_preallocated_copy_is_suspected(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = noise(rng, 200, 300)
    xml = xisf_picture(f'geometry="300:200:1" sampleFormat="UInt16" location="attachment:{{at}}:{pixels.nbytes}"')
    content = xisf_bytes(xml, pixels.tobytes())
    path = tmp_path / "a.xisf"
    path.write_bytes(content)
    assert not looks_unfinished(path)
    path.write_bytes(content[:60_000].ljust(len(content), b"\0"))
    assert is_whole(path, len(content)) is True
    assert looks_unfinished(path)


@pytest.mark.parametrize(
    "xml",
    [
        '<?xml version="1.0"?><!DOCTYPE xisf [<!ENTITY a "b">]><xisf><Image geometry="9:9:1">&a;</Image></xisf>',
        '<?xml version="1.0"?><!DOCTYPE xisf SYSTEM "file:///etc/passwd"><xisf/>',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]><xisf/>',
    ],
)
def test_document_types_and_entities_are_refused(xml: str) -> None:
    with pytest.raises(UnreadableFrame, match="document type"):
        decoded(xisf_bytes(xml))


@pytest.mark.parametrize("location", ["path(/etc/passwd):1:2", "url(http://127.0.0.1/x)", "path(@header_dir/x.xisb)"])
def test_data_outside_the_file_are_never_fetched(location: str) -> None:
    with pytest.raises(UnreadableFrame, match="outside"):
        decoded(xisf_bytes(xisf_picture(f'geometry="30:20:1" sampleFormat="UInt16" location="{location}"')))


def test_a_file_without_a_picture_is_no_sub() -> None:
    with pytest.raises(NotASub):
        decoded(xisf_bytes("<xisf/>"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'Ha      '", "Ha"),
        ("LIGHT", "LIGHT"),
        ("300.5", 300.5),
        ("-7", -7),
        ("T", True),
        ("", ""),
        ("'it''s'", "it's"),
    ],
)
def test_keyword_values_are_read_quoted_or_bare(text: str, value: object) -> None:
    assert card_value(text) == value


@given(st.binary(max_size=600))
@settings(max_examples=200)
def test_no_header_bytes_break_the_reader(noise_bytes: bytes) -> None:
    content = b"XISF0100" + len(noise_bytes).to_bytes(4, "little") + bytes(4) + noise_bytes
    with pytest.raises(FileProblem):
        decode(io.BytesIO(content), BUDGET)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_damaged_byte_breaks_the_reader(data: st.DataObject) -> None:
    pixels = np.arange(20 * 20, dtype="<u2").reshape(20, 20)
    packed = zlib.compress(shuffled(pixels.tobytes(), 2))
    xml = xisf_picture(
        'geometry="20:20:1" sampleFormat="UInt16" compression="zlib+sh:800:2" '
        f'location="attachment:{{at}}:{len(packed)}"'
    )
    content = bytearray(xisf_bytes(xml, packed))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decoded(bytes(content)).dtype == np.float32
    except FileProblem as problem:
        assert str(problem).endswith(".")  # noqa: PT017 - either outcome is right
