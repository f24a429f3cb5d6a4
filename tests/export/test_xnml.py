"""The .xnml format: PixInsight gets our surface back; every codec is read; evaluation follows PixInsight's rules."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import lz4.block
import numpy as np
import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st

from nsgd.errors import ExportProblem
from nsgd.export.codecs import decompress, lz4_block
from nsgd.export.xnml import (
    GlobalNormalization,
    Xnml,
    evaluate,
    from_bytes,
    invalid,
    matrix_shape,
    nodes_for,
    normalised,
    spline_basis,
    to_bytes,
)

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("xnml.xsd"))

EXAMPLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<xnml version="1.0" xmlns="http://www.pixinsight.com/xnml">
   <CreationTime>2025-11-22T21:30:00.000Z</CreationTime>
   <ReferenceImage>/data/m31/registered/ref_r.xisf</ReferenceImage>
   <TargetImage>/data/m31/registered/sub_0042_r.xisf</TargetImage>
   <ReferenceGeometry width="400" height="300" numberOfChannels="1"/>
   <LocalNormalization scale="64" version="1">
      <Scale width="4" height="3" numberOfChannels="1" sampleFormat="Float32">
         <ChannelData>AACgPwAAoD8AAKA/AACgPwAAoD8AAKA/AACgPwAAoD8AAKA/AACgPwAAoD8AAKA/</ChannelData>
      </Scale>
      <ZeroOffset width="4" height="3" numberOfChannels="1" sampleFormat="Float32">
         <ChannelData>bxIDu4/C9bpCYOW69P3Uum8SA7uPwvW6QmDluvT91LpvEgO7j8L1ukJg5br0/dS6</ChannelData>
      </ZeroOffset>
   </LocalNormalization>
   <RelativeScaleFactors>1.25</RelativeScaleFactors>
</xnml>
"""


def example(width: int = 400, height: int = 300, channels: int = 1) -> Xnml:
    rows, columns = matrix_shape(width, height)
    rng = np.random.default_rng(1)
    scale = np.full((channels, rows, columns), 1.25, dtype=np.float32)
    offset = rng.normal(0, 1e-3, (channels, rows, columns)).cumsum(axis=2).astype(np.float32)
    return Xnml(width, height, scale, offset, relative_scale=(1.25,) * channels, created="2025-11-22T21:30:00.000Z")


def packed(codec: str, raw: bytes) -> bytes:
    """A block of a file; what does not shrink is stored as it is."""
    return min(compressed(codec, raw), raw, key=len)


def compressed(codec: str, raw: bytes) -> bytes:
    if codec == "zlib":
        return zlib.compress(raw)
    if codec == "zstd":
        zstd = pytest.importorskip("backports.zstd")
        return bytes(zstd.compress(raw))
    mode = "high_compression" if codec == "lz4hc" else "default"
    return bytes(lz4.block.compress(raw, mode=mode, store_size=False))


def with_codec(xnml: Xnml, codec: str, blocks: int = 1) -> bytes:
    """A file as PixInsight would write it with this codec."""
    name, _, shuffle = codec.partition("+")
    text = to_bytes(xnml).decode()
    for matrix, nodes in (("Scale", xnml.scale), ("ZeroOffset", xnml.offset)):
        raw = nodes[0].astype("<f4").tobytes()
        data = np.frombuffer(raw, np.uint8).reshape(-1, 4).T.tobytes() if shuffle else raw
        step = -(-len(data) // blocks)
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        body = "".join(
            f'<Subblock uncompressedSize="{len(piece)}">{base64.b64encode(packed(name, piece)).decode()}</Subblock>'
            for piece in pieces
        )
        start = text.index(f"<{matrix} width")
        first, end = text.index("<ChannelData", start), text.index(f"</{matrix}>", start)
        text = text[:first] + f'<ChannelData compression="{codec}">{body}</ChannelData>' + text[end:]
    return text.encode()


def test_the_published_example_evaluates_as_pixinsight_does() -> None:
    xnml = from_bytes(EXAMPLE)
    assert xnml.relative_scale == (1.25,)
    assert (xnml.width_px, xnml.height_px, xnml.window_px, xnml.version) == (400, 300, 64, 1)
    x = np.array([0.0, 150.0, 199.0, 399.0])
    for row in (0.0, 150.0, 299.0):
        values = evaluate(xnml.offset[0], x, np.array([row]), 400, 300)[0]
        assert values == pytest.approx([-0.00197917, -0.00181250, -0.00175125, -0.00164521], abs=5e-9)
    frame = np.full((300, 400), 0.01, dtype=np.float32)
    assert normalised(xnml, 0, frame)[150, 150] == pytest.approx(0.0106875, abs=1e-9)


def test_the_published_compressed_block_is_read() -> None:
    block = base64.b64decode("eJztwTENAAAIA7A5wypSMcGzpG0CAMCnBSgxACUODqcVjQ==")
    raw = decompress("zlib", block, 4800)
    assert np.frombuffer(np.frombuffer(raw, np.uint8).reshape(4, -1).T.tobytes(), "<f4").tolist() == [1.25] * 1200


@pytest.mark.parametrize("codec", ["lz4", "lz4+sh", "lz4hc", "lz4hc+sh", "zlib", "zlib+sh", "zstd", "zstd+sh"])
@pytest.mark.parametrize("blocks", [1, 3])
def test_every_codec_of_pixinsight_is_read(codec: str, blocks: int) -> None:
    xnml = example()
    again = from_bytes(with_codec(xnml, codec, blocks))
    assert np.array_equal(again.scale, xnml.scale)
    assert np.array_equal(again.offset, xnml.offset)


def test_old_double_precision_files_are_read() -> None:
    nodes = np.repeat([-1e-3, 2e-3], 6)
    shuffled = np.frombuffer(nodes.astype("<f8").tobytes(), np.uint8).reshape(-1, 8).T.tobytes()
    text = EXAMPLE.decode().replace("Float32", "Float64")
    start = text.index("<ChannelData>", text.index("<ZeroOffset"))
    end = text.index("</ZeroOffset>")
    block = base64.b64encode(zlib.compress(shuffled)).decode()
    scale = base64.b64encode(np.full(12, 1.25).tobytes()).decode()
    text = (
        text[:start]
        + f'<ChannelData compression="zlib+sh"><Subblock uncompressedSize="96">{block}</Subblock></ChannelData>'
        + text[end:]
    ).replace("AACgPwAAoD8AAKA/AACgPwAAoD8AAKA/AACgPwAAoD8AAKA/AACgPwAAoD8AAKA/", scale)
    for content in (text, text.replace(' sampleFormat="Float64"', "")):
        assert from_bytes(content.encode()).offset.ravel() == pytest.approx(nodes.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_reads_back_and_obeys_the_schema(channels: int) -> None:
    xnml = replace(
        example(channels=channels),
        reference_path="/night/<ref> & co.xisf",
        sub_path="D:/night/sub -- 1.xisf",
        bias=(0.001,) * channels,
        globally=GlobalNormalization((1.0,) * channels, (0.1,) * channels, (0.2,) * channels),
    )
    content = to_bytes(xnml, note="made by nsgd -- \x1b[31m --")
    SCHEMA.validate(content.decode())
    again = from_bytes(content)
    assert np.array_equal(again.scale, xnml.scale)
    assert np.array_equal(again.offset, xnml.offset)
    assert again.relative_scale == pytest.approx(xnml.relative_scale)
    assert (again.reference_path, again.sub_path, again.created) == (xnml.reference_path, xnml.sub_path, xnml.created)
    assert again.globally == xnml.globally
    assert b"\x1b" not in content


def test_incompressible_nodes_are_stored_plain() -> None:
    noise = np.random.default_rng(0).integers(0, 2**31, (1, 75, 100), dtype=np.int64).astype("<u4").view("<f4")
    xnml = replace(example(), offset=noise, scale=np.ones((1, 75, 100), dtype=np.float32))
    content = to_bytes(xnml)
    SCHEMA.validate(content.decode())
    assert np.array_equal(from_bytes(content).offset.view("<u4"), noise.view("<u4"))


def test_a_failed_frame_is_marked_and_needs_no_matrix() -> None:
    content = to_bytes(invalid(400, 300, "/night/sub.xisf"))
    SCHEMA.validate(content.decode())
    again = from_bytes(content)
    assert not again.valid
    assert (again.width_px, again.height_px, again.sub_path) == (400, 300, "/night/sub.xisf")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<xnml ", b"<other "),
        (b'version="1.0" xmlns', b'version="1.1" xmlns'),
        (b"</xnml>", b""),
        (b'width="4" height="3" numberOfChannels="1"', b'width="5" height="3" numberOfChannels="1"'),
        (b'width="400"', b'width="0"'),
        (b'width="400"', b'width="many"'),
        (b"<RelativeScaleFactors>1.25", b"<RelativeScaleFactors>1.25,1.0"),
        (b'scale="64"', b'scale="8"'),
        (b'scale="64"', b'scale="512"'),
        (b"bxID", b"b D"),
        (b"<xnml ", b'<!DOCTYPE x [<!ENTITY a "b">]><xnml '),
        (b'width="4" height="3"', b'width="400000" height="300000"'),
        (b"<ReferenceGeometry", b"<Geometry"),
        (b"UTF-8", b"UTF-8\xff"),
    ],
)
def test_what_pixinsight_refuses_is_refused_with_a_sentence(old: bytes, new: bytes) -> None:
    assert old in EXAMPLE
    with pytest.raises(ExportProblem, match=r"no usable \.xnml"):
        from_bytes(EXAMPLE.replace(old, new))


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    text = EXAMPLE.decode()
    start = text.index("<ChannelData>")
    end = text.index("</Scale>")
    block = f'<ChannelData compression="zlib"><Subblock uncompressedSize="50000000">{bomb}</Subblock></ChannelData>'
    with pytest.raises(ExportProblem, match="claims"):
        from_bytes((text[:start] + block + text[end:]).encode())
    with pytest.raises(ValueError, match="expected"):
        decompress("zlib", base64.b64decode(bomb), 4800)


@given(st.binary(max_size=2000), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_our_lz4_decoder_agrees_with_the_package(raw: bytes, times: int) -> None:
    data = raw * times
    assert lz4_block(lz4.block.compress(data, store_size=False), len(data)) == data


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_damaged_lz4_blocks_end_in_an_error_or_bounded_bytes(raw: bytes) -> None:
    try:
        out = lz4_block(raw, 1000)
    except ValueError:
        return
    assert len(out) <= 1000 + len(raw)


def surface(x: np.ndarray, y: np.ndarray, width: int, height: int) -> np.ndarray:
    """A strong gradient with a bump, in units of the pixel sigma: 12 across the frame."""
    u, v = x / width, y / height
    return 8.0 * u - 4.0 * v + 5.0 * np.exp(-(((u - 0.7) / 0.25) ** 2) - ((v - 0.3) / 0.3) ** 2) + 3.0 * u * v


@pytest.mark.parametrize(("width", "height"), [(400, 300), (1392, 1040), (3008, 3008)])
def test_pixinsight_gets_our_surface_back_up_to_the_borders(width: int, height: int) -> None:
    sample_x, sample_y = np.meshgrid(np.linspace(0, width - 1, 97), np.linspace(0, height - 1, 73))
    nodes = nodes_for(surface(sample_x, sample_y, width, height), width, height)
    assert nodes.shape == matrix_shape(width, height)
    x, y = np.arange(0, width, max(1, width // 700)), np.arange(0, height, max(1, height // 700))
    x, y = np.union1d(x, np.arange(width - 20, width)), np.union1d(y, np.arange(height - 20, height))
    truth = surface(*np.meshgrid(x.astype(float), y.astype(float)), width, height)
    error = evaluate(nodes, x, y, width, height) - truth
    assert np.sqrt((error**2).mean()) <= 0.004
    assert np.quantile(np.abs(error), 0.99) <= 0.02
    border = np.concatenate((error[0], error[-1], error[:, 0], error[:, -1]))
    assert np.sqrt((border**2).mean()) <= 0.04


def test_without_the_inverse_filter_the_surface_would_come_back_smoothed() -> None:
    width, height = 400, 300
    rows, columns = matrix_shape(width, height)
    x, y = np.meshgrid(np.arange(columns) * width / columns, np.arange(rows) * height / rows)
    truth = np.sin(x / 12.0) + 0.0 * y
    fine = np.sin(np.linspace(0, width - 1, 400) / 12.0) * np.ones((100, 1))
    at = np.arange(40, 360)
    wanted = np.sin(at / 12.0)
    naive = evaluate(truth.astype(np.float32), at, np.array([150]), width, height)[0]
    ours = evaluate(nodes_for(fine, width, height), at, np.array([150]), width, height)[0]
    assert np.abs(ours - wanted).max() < 0.1 * np.abs(naive - wanted).max()


def test_a_ramp_sampled_at_the_nodes_comes_back_exactly_inside() -> None:
    ramp = np.tile(np.arange(20, dtype=np.float32) * 10.0, (10, 1))
    values = evaluate(ramp, np.arange(10, 180), np.arange(10, 80), 200, 100)
    assert np.allclose(values, np.arange(10, 180), atol=1e-9)


def test_the_borders_follow_pixinsights_own_rules() -> None:
    rng = np.random.default_rng(3)
    nodes = rng.normal(size=(5, 6)).astype(np.float32)
    for x, y in ((0, 0), (59, 0), (0, 49), (59, 49), (51, 41), (3, 33)):
        assert evaluate(nodes, np.array([x]), np.array([y]), 60, 50)[0, 0] == pytest.approx(by_hand(nodes, x, y))


def by_hand(nodes: np.ndarray, x: int, y: int) -> float:
    """The rules of evaluation, tap by tap."""
    rows, columns = nodes.shape
    u, v = x * columns / 60, y * rows / 50
    i, j = min(int(v), rows - 1), min(int(u), columns - 1)
    row_taps = [max(i - 1, 0), i, min(i + 1, rows - 1), min(i + 2, rows - 1)]
    column_taps = [max(j - 1, 0), j, j + 1, j + 2]
    if j == columns - 2:
        column_taps[3] = columns - 1
    if j == columns - 1:
        column_taps[2:] = [columns - 1, columns - 2]

    def b(t: float) -> float:
        t = abs(t)
        return (4 - 6 * t**2 + 3 * t**3) / 6 if t < 1 else (2 - t) ** 3 / 6 if t < 2 else 0.0

    return sum(
        b(v - (i - 1 + p)) * b(u - (j - 1 + q)) * float(nodes[row_taps[p], column_taps[q]])
        for p in range(4)
        for q in range(4)
    )


def test_the_basis_is_a_partition_of_one() -> None:
    for columns in (True, False):
        assert np.allclose(spline_basis(np.arange(300.0), 300, 17, columns=columns).sum(axis=1), 1.0)


def test_zeros_outside_the_registered_frame_stay_zero() -> None:
    frame = np.full((300, 400), 0.1, dtype=np.float32)
    frame[:, :30] = 0.0
    out = normalised(example(), 0, frame)
    assert not out[:, :30].any()
    assert out[:, 30:].all()


def test_rows_can_be_normalised_piece_by_piece() -> None:
    frame = np.random.default_rng(2).random((300, 400), dtype=np.float32)
    whole = normalised(example(), 0, frame)
    pieces = [normalised(example(), 0, frame[at : at + 64], at) for at in range(0, 300, 64)]
    assert np.array_equal(np.vstack(pieces), whole)


def test_a_constant_scale_costs_next_to_nothing_and_the_file_stays_small() -> None:
    x, y = np.meshgrid(np.linspace(0, 6247, 97), np.linspace(0, 4175, 73))
    offset = nodes_for(surface(x, y, 6248, 4176) * 1e-4, 6248, 4176)[None]
    offset = np.round(offset * 2**26) / np.float32(2**26)
    content = to_bytes(Xnml(6248, 4176, np.full_like(offset, 1.25), offset, relative_scale=(1.25,)))
    assert len(content) < 200_000
    assert struct.unpack("<f", struct.pack("<f", 1.25))[0] == from_bytes(content).scale[0, 0, 0]
