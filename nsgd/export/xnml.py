"""PixInsight's local normalization data (.xnml): writing it, reading it, and evaluating it as PixInsight does.

A pixel z becomes A(x, y) * z + B(x, y). A and B are matrices that PixInsight evaluates as uniform bicubic B-splines
which approximate, not interpolate, their nodes, with rules of their own at the borders; node k of a matrix of n
columns lies at pixel k * width / n. `nodes_for` inverts that evaluation by least squares, so that the function that
PixInsight sees is the one that was meant.
"""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from nsgd.errors import ExportProblem
from nsgd.export.codecs import decompress
from nsgd.export.text import visible
from nsgd.records import Floats, Floats32

NAMESPACE: Final = "http://www.pixinsight.com/xnml"
SCHEMA: Final = f"{NAMESPACE} {NAMESPACE}/xnml-1.0.xsd"
AIMED_NODES: Final = 100_000
"""Nodes of a matrix that are aimed at: 54 KB compressed for a smooth surface."""
SPACING_PX: Final = (4.0, 16.0)
"""Least and largest distance of two nodes: the last one limits the error at the right and bottom border."""
LARGEST_MATRIX: Final = 64_000_000
"""Most bytes of a matrix that the reader accepts."""


@dataclass(frozen=True, slots=True)
class GlobalNormalization:
    """z -> scale * (z - sub_location) + reference_location, per channel, after the local function."""

    scale: tuple[float, ...]
    reference_location: tuple[float, ...]
    sub_location: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Xnml:
    """The content of one .xnml file."""

    width_px: int
    height_px: int
    """Size of the registered frames."""
    scale: Floats32
    """(channels, rows, columns) nodes of A; empty where `valid` is False."""
    offset: Floats32
    """(channels, rows, columns) nodes of B, in PixInsight's units: 1 is full scale."""
    relative_scale: tuple[float, ...] = ()
    """Per channel, what the weight mode PSF Scale SNR takes for the scale."""
    bias: tuple[float, ...] = ()
    """Per channel, subtracted before A multiplies; () is 0."""
    globally: GlobalNormalization | None = None
    reference_path: str = ""
    sub_path: str = ""
    created: str = ""
    """ISO 8601 UTC; "" leaves it out."""
    window_px: int = 64
    """PixInsight's "normalization scale", informative."""
    version: int = 1
    valid: bool = True
    """False: PixInsight leaves the frame out of the integration, with a warning."""


def invalid(width_px: int, height_px: int, sub_path: str, created: str = "") -> Xnml:
    """The file of a frame that could not be normalised."""
    nothing = np.empty((0, 0, 0), dtype=np.float32)
    return Xnml(width_px, height_px, nothing, nothing, sub_path=sub_path, created=created, valid=False)


# --- evaluation, as PixInsight does it ---------------------------------------------------------------------------


def spline_basis(positions_px: Floats, size_px: int, nodes: int, *, columns: bool) -> Floats:
    """Matrix that turns node values along one axis into values at pixels, with PixInsight's border rules.

    Parameters
    ----------
    positions_px
        (n,) pixel coordinates along the axis, 0-based.
    size_px, nodes
        Pixels of the frame and nodes of the matrix along the axis; at least 2 nodes.
    columns
        True along x, where the taps behind the last column are mirrored; False along y, where the last row repeats.

    Returns
    -------
    (n, nodes) array; every row adds up to 1.
    """
    place = np.asarray(positions_px, dtype=np.float64) * nodes / size_px
    base = np.clip(np.trunc(place), 0, nodes - 1).astype(np.int64)
    taps = base[:, None] + np.array([-1, 0, 1, 2])
    last = nodes - 1
    folded = 2 * last + 1 - taps if columns else np.full_like(taps, last)
    if columns:  # base wm-2 repeats its last tap, base wm-1 mirrors both
        folded = np.clip(folded, last - 1, last)
    taps = np.where(taps > last, folded, np.maximum(taps, 0))
    weights = _cubic(place[:, None] - (base[:, None] + np.array([-1, 0, 1, 2])))
    basis = np.zeros((place.size, nodes))
    np.add.at(basis, (np.arange(place.size)[:, None], taps), weights)
    return basis


def _cubic(distance: Floats) -> Floats:
    t = np.abs(distance)
    near, far = (4.0 - 6.0 * t**2 + 3.0 * t**3) / 6.0, np.clip(2.0 - t, 0.0, None) ** 3 / 6.0
    return np.where(t < 1.0, near, far)


def evaluate(nodes: Floats32, x_px: Floats, y_px: Floats, width_px: int, height_px: int) -> Floats:
    """One channel's matrix at every crossing of columns x_px and rows y_px.

    Parameters
    ----------
    nodes
        (rows, columns) matrix.
    x_px, y_px
        (n,) and (m,) pixel coordinates.

    Returns
    -------
    (m, n) array.
    """
    across = spline_basis(x_px, width_px, nodes.shape[1], columns=True)
    down = spline_basis(y_px, height_px, nodes.shape[0], columns=False)
    return np.asarray(down @ nodes.astype(np.float64) @ across.T)


def normalised(xnml: Xnml, channel: int, pixels: Floats32, first_row: int = 0) -> Floats32:
    """Rows of a frame as PixInsight normalises them; zeros, outside the registered frame, stay zero.

    Parameters
    ----------
    pixels
        (rows, width) pixels in PixInsight's units, 1 = full scale.
    first_row
        Row of the frame that `pixels` begins with.
    """
    x, y = np.arange(float(xnml.width_px)), first_row + np.arange(float(pixels.shape[0]))
    size = (xnml.width_px, xnml.height_px)
    multiply = evaluate(xnml.scale[channel], x, y, *size)
    add = evaluate(xnml.offset[channel], x, y, *size)
    out = multiply * (pixels - (xnml.bias[channel] if xnml.bias else 0.0)) + add
    if xnml.globally is not None:
        whole = xnml.globally
        out = whole.scale[channel] * (out - whole.sub_location[channel]) + whole.reference_location[channel]
    return np.where(pixels == 0, pixels, out).astype(np.float32)


# --- the inverse: nodes for a wanted function --------------------------------------------------------------------


def matrix_shape(width_px: int, height_px: int) -> tuple[int, int]:
    """Rows and columns of the matrices for frames of this size."""
    spacing = float(np.clip(np.sqrt(width_px * height_px / AIMED_NODES), *SPACING_PX))
    return max(2, round(height_px / spacing)), max(2, round(width_px / spacing))


def nodes_for(values: Floats, width_px: int, height_px: int) -> Floats32:
    """Nodes whose spline, evaluated as PixInsight does, is the smooth function that `values` samples.

    Parameters
    ----------
    values
        (rows, columns) samples on a regular grid from the centre of the first pixel to that of the last, at least 4
        each way.

    Returns
    -------
    (rows, columns) matrix of `matrix_shape`.
    """
    rows, columns = matrix_shape(width_px, height_px)
    across = _axis_inverse(width_px, columns, values.shape[1], True)
    down = _axis_inverse(height_px, rows, values.shape[0], False)
    return np.asarray(down @ values @ across.T, dtype=np.float32)


@lru_cache(maxsize=8)
def _axis_inverse(size_px: int, nodes: int, samples: int, columns: bool) -> Floats:
    """(nodes, samples): samples -> cubic spline at four or more pixels a node -> least squares for the nodes."""
    from scipy.interpolate import make_interp_spline  # scipy is needed here only

    pixels = np.unique(np.linspace(0, size_px - 1, min(size_px, 6 * nodes + 1)).round())
    spline = make_interp_spline(np.linspace(0, size_px - 1, samples), np.eye(samples), k=3)
    basis = spline_basis(pixels, size_px, nodes, columns=columns)
    return np.asarray(np.linalg.solve(basis.T @ basis, basis.T @ spline(pixels)))


# --- writing -----------------------------------------------------------------------------------------------------


def to_bytes(xnml: Xnml, note: str = "") -> bytes:
    """The file's content, in the order in which PixInsight itself writes.

    Parameters
    ----------
    note
        Kept as an XML comment; PixInsight warns about elements it does not know.
    """
    root = ET.Element("xnml", {"version": "1.0", "xmlns": NAMESPACE})
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xsi:schemaLocation", SCHEMA)
    if not xnml.valid:
        root.set("valid", "false")
    if note:
        root.append(ET.Comment(f" {visible(note).replace('--', '- -')} "))
    for name, text in (
        ("CreationTime", xnml.created),
        ("ReferenceImage", xnml.reference_path),
        ("TargetImage", xnml.sub_path),
    ):
        if text:
            ET.SubElement(root, name).text = visible(text)
    _write_geometry(root, xnml)
    if xnml.valid:
        _write_functions(root, xnml)
    ET.indent(root, "   ")
    content: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content + b"\n"


def _write_geometry(root: ET.Element, xnml: Xnml) -> None:
    size = {"width": str(xnml.width_px), "height": str(xnml.height_px)}
    ET.SubElement(root, "ReferenceGeometry", size | {"numberOfChannels": str(max(1, xnml.scale.shape[0]))})


def _write_functions(root: ET.Element, xnml: Xnml) -> None:
    window = min(xnml.window_px, xnml.width_px, xnml.height_px)
    local = ET.SubElement(root, "LocalNormalization", {"scale": str(window), "version": str(xnml.version)})
    _write_matrix(local, "Scale", xnml.scale)
    _write_matrix(local, "ZeroOffset", xnml.offset)
    if xnml.bias:
        ET.SubElement(local, "Bias").text = _vector_text(xnml.bias)
    if xnml.globally is not None:
        whole = ET.SubElement(root, "GlobalNormalization")
        ET.SubElement(whole, "Scale").text = _vector_text(xnml.globally.scale)
        ET.SubElement(whole, "ReferenceLocation").text = _vector_text(xnml.globally.reference_location)
        ET.SubElement(whole, "TargetLocation").text = _vector_text(xnml.globally.sub_location)
    if xnml.relative_scale:
        ET.SubElement(root, "RelativeScaleFactors").text = _vector_text(xnml.relative_scale)


def _vector_text(values: tuple[float, ...]) -> str:
    return ",".join(format(value, ".10g") for value in values)


def _write_matrix(parent: ET.Element, name: str, nodes: Floats32) -> None:
    channels, rows, columns = nodes.shape
    size = {"width": str(columns), "height": str(rows), "numberOfChannels": str(channels), "sampleFormat": "Float32"}
    matrix = ET.SubElement(parent, name, size)
    for channel in nodes:
        raw = np.ascontiguousarray(channel, dtype="<f4").tobytes()
        packed = zlib.compress(np.frombuffer(raw, dtype=np.uint8).reshape(-1, 4).T.tobytes(), 9)
        if len(packed) >= len(raw):  # a block that is not shorter would be taken as stored verbatim
            ET.SubElement(matrix, "ChannelData").text = base64.b64encode(raw).decode()
            continue
        data = ET.SubElement(matrix, "ChannelData", {"compression": "zlib+sh"})
        block = ET.SubElement(data, "Subblock", {"uncompressedSize": str(len(raw))})
        block.text = base64.b64encode(packed).decode()


# --- reading -----------------------------------------------------------------------------------------------------


def from_bytes(content: bytes) -> Xnml:
    """Read a .xnml file, ours or PixInsight's, with all its codecs.

    Raises
    ------
    ExportProblem
        The file is not well-formed, or PixInsight would refuse it.
    """
    try:
        return _read(content)
    except (ValueError, KeyError, ET.ParseError, zlib.error, binascii.Error) as error:
        raise ExportProblem(f"This is no usable .xnml file: {error}.") from error


def _read(content: bytes) -> Xnml:
    text = content.decode("utf-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities")
    root = ET.fromstring(text)
    if _tag(root) != "xnml" or root.get("version") != "1.0":
        raise ValueError("the root element is not xnml 1.0")
    parts = {_tag(child): child for child in root}
    width, height = (int(parts["ReferenceGeometry"].attrib[name]) for name in ("width", "height"))
    valid = root.get("valid", "true").strip().lower() not in {"false", "0"}
    if not valid:
        return invalid(width, height, _text(parts, "TargetImage"), _text(parts, "CreationTime"))
    local = parts["LocalNormalization"]
    inner = {_tag(child): child for child in local}
    scale, offset = _read_matrix(inner["Scale"]), _read_matrix(inner["ZeroOffset"])
    xnml = Xnml(
        width,
        height,
        scale,
        offset,
        relative_scale=_vector(parts.get("RelativeScaleFactors")),
        bias=_vector(inner.get("Bias")),
        globally=_read_global(parts.get("GlobalNormalization")),
        reference_path=_text(parts, "ReferenceImage"),
        sub_path=_text(parts, "TargetImage"),
        created=_text(parts, "CreationTime"),
        window_px=int(local.attrib["scale"]),
        version=int(local.get("version", "0")),
    )
    _check(xnml)
    return xnml


def _check(xnml: Xnml) -> None:
    """PixInsight's own checks."""
    channels, rows, columns = xnml.scale.shape
    if xnml.offset.shape != xnml.scale.shape:
        raise ValueError("Scale and ZeroOffset differ in size")
    if columns < 2 or rows < 1:
        raise ValueError("a matrix needs two columns and a row")
    if xnml.window_px < 16 or min(xnml.width_px, xnml.height_px) < xnml.window_px:
        raise ValueError("the normalization scale does not fit the frame")
    if xnml.width_px < columns or xnml.height_px < rows:
        raise ValueError("a matrix is larger than the frame")
    vectors = [xnml.relative_scale, xnml.bias]
    if xnml.globally is not None:
        whole = xnml.globally
        if not (whole.scale and whole.reference_location and whole.sub_location):
            raise ValueError("GlobalNormalization is not complete")
        vectors += [whole.scale, whole.reference_location, whole.sub_location]
    if any(vector and len(vector) != channels for vector in vectors):
        raise ValueError("a vector has not one value per channel")


def _tag(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(parts: dict[str, ET.Element], name: str) -> str:
    return (parts[name].text or "").strip() if name in parts else ""


def _vector(element: ET.Element | None) -> tuple[float, ...]:
    if element is None or not (element.text or "").strip():
        return ()
    return tuple(float(token) for token in str(element.text).strip().split(","))


def _read_global(element: ET.Element | None) -> GlobalNormalization | None:
    if element is None:
        return None
    parts = {_tag(child): child for child in element}
    names = ("Scale", "ReferenceLocation", "TargetLocation")
    return GlobalNormalization(*(_vector(parts.get(name)) for name in names))


def _read_matrix(element: ET.Element) -> Floats32:
    columns, rows, channels = (int(element.attrib[name]) for name in ("width", "height", "numberOfChannels"))
    data = [child for child in element if _tag(child) == "ChannelData"]
    if min(columns, rows, channels) < 1 or len(data) != channels:
        raise ValueError(f"{_tag(element)} has not one ChannelData per channel")
    item = _item_size(element.get("sampleFormat"), data[0], rows * columns)
    if columns * rows * channels * item > LARGEST_MATRIX:
        raise ValueError(f"{_tag(element)} is unreasonably large")
    planes = [_channel_data(one, rows * columns * item, item) for one in data]
    return np.stack([plane.reshape(rows, columns) for plane in planes])


def _item_size(sample_format: str | None, data: ET.Element, samples: int) -> int:
    if sample_format is not None:
        return {"Float32": 4, "Float64": 8}[sample_format]
    blocks = [int(child.attrib["uncompressedSize"]) for child in data if _tag(child) == "Subblock"]
    size = sum(blocks) if blocks else len(_base64(data))
    return 8 if size == 8 * samples else 4


def _channel_data(element: ET.Element, size: int, item: int) -> Floats32:
    codec = element.get("compression", "")
    if not codec:
        raw = _base64(element)
    else:
        name, _, shuffled = codec.partition("+")
        raw = b"".join(_block(block, name, size) for block in element if _tag(block) == "Subblock")
        if shuffled == "sh":
            whole = len(raw) - len(raw) % item
            rest = raw[whole:]
            raw = np.frombuffer(raw[:whole], dtype=np.uint8).reshape(item, -1).T.tobytes() + rest
    if len(raw) != size:
        raise ValueError(f"a channel has {len(raw)} bytes, {size} expected")
    with np.errstate(over="ignore"):
        return np.frombuffer(raw, dtype=f"<f{item}").astype(np.float32)


def _block(element: ET.Element, codec: str, largest: int) -> bytes:
    size = int(element.attrib["uncompressedSize"])
    if not 0 <= size <= largest:
        raise ValueError(f"a block claims {size} bytes")
    packed = _base64(element)
    return packed[:size] if len(packed) >= size else decompress(codec, packed, size)


def _base64(element: ET.Element) -> bytes:
    text = (element.text or "").strip().replace("\r", "").replace("\n", "")
    return base64.b64decode(text, validate=True)
