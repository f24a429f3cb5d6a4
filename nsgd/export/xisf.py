"""The beginning of a monolithic XISF 1.0 file with one picture, from the public specification.

Signature, length of the XML, the XML, and zeros up to the attached block; the block is planar little-endian float32,
one channel after the other, rows from the top.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from typing import Final

from astropy.io import fits

from nsgd.export.text import visible

NAMESPACE: Final = "http://www.pixinsight.com/xisf"
ALIGNMENT: Final = 4096
"""The attached block begins at a multiple of this."""
FITS_ONLY: Final = frozenset({"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "ROWORDER"})
"""Cards that describe how FITS stores pixels."""


def beginning(header: fits.Header, shape: tuple[int, int, int], created: str) -> bytes:
    """All bytes before the pixels.

    Parameters
    ----------
    header
        Cards that become FITSKeyword elements.
    shape
        (channels, height, width); 1 or 3 channels of float32 follow, 1 = full scale.
    created
        Time of creation, ISO 8601 UTC.
    """
    begin = 0
    xml = _xml(header, shape, created, begin)
    while 16 + len(xml) > begin:  # the place of the pixels stands in the XML, whose length sets the place
        begin = -(-(16 + len(xml)) // ALIGNMENT) * ALIGNMENT
        xml = _xml(header, shape, created, begin)
    return (b"XISF0100" + struct.pack("<II", len(xml), 0) + xml).ljust(begin, b"\0")


def _xml(header: fits.Header, shape: tuple[int, int, int], created: str, begin: int) -> bytes:
    channels, height, width = shape
    root = ET.Element("xisf", {"version": "1.0", "xmlns": NAMESPACE})
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xsi:schemaLocation", f"{NAMESPACE} {NAMESPACE.replace('www.', '')}/xisf-1.0.xsd")
    picture = {
        "geometry": f"{width}:{height}:{channels}",
        "sampleFormat": "Float32",
        "bounds": "0:1",
        "colorSpace": "RGB" if channels == 3 else "Gray",
        "imageType": "Light",
        "location": f"attachment:{begin}:{4 * channels * height * width}",
    }
    image = ET.SubElement(root, "Image", picture)
    for card in header.cards:
        if card.keyword not in FITS_ONLY:
            ET.SubElement(image, "FITSKeyword", _keyword(card))
    metadata = ET.SubElement(root, "Metadata")
    ET.SubElement(metadata, "Property", {"id": "XISF:CreationTime", "type": "TimePoint", "value": created})
    ET.SubElement(metadata, "Property", {"id": "XISF:CreatorApplication", "type": "String"}).text = "nsgd"
    content: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content


def _keyword(card: fits.Card) -> dict[str, str]:
    """A card as the specification wants it: values as FITS spells them, commentary in the comment."""
    if card.keyword in ("HISTORY", "COMMENT"):
        return {"name": card.keyword, "value": "", "comment": visible(str(card.value))}
    value = card.value
    if isinstance(value, bool):
        text = "T" if value else "F"
    elif isinstance(value, str):
        text = "'" + visible(value).replace("'", "''") + "'"
    else:
        text = repr(float(value)) if isinstance(value, float) else str(value)
    return {"name": card.keyword, "value": text, "comment": visible(card.comment)}
