"""PixInsight's ImageIntegration and DrizzleIntegration, filled in: a script (.js) and process icons (.xpsm).

The script opens the windows and runs nothing: the last look is the user's.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nsgd.export.text import script_string, visible

NAMESPACE: Final = "http://www.pixinsight.com/xpsm"
VERSION: Final = "256"


class Enumerated(NamedTuple):
    """A value that PixInsight knows by name."""

    name: str


Value = bool | float | str | Enumerated


@dataclass(frozen=True, slots=True)
class Input:
    """One frame of an integration; paths as PixInsight's machine sees them."""

    enabled: bool
    image: str
    normalization: str
    drizzle: str = ""
    """"" where there is no drizzle data."""


@dataclass(frozen=True, slots=True)
class Integration:
    """One filter's stack: frames in order of decreasing weight, the disabled ones last."""

    name: str
    inputs: Sequence[Input]
    weights_path: str
    noise_known: bool
    """True where every frame carries the noise of its unregistered pixels (NOISExx)."""

    @property
    def drizzles(self) -> bool:
        """Whether every enabled frame has drizzle data."""
        enabled = [one for one in self.inputs if one.enabled]
        return bool(enabled) and all(one.drizzle for one in enabled)


def rejection(count: int) -> dict[str, Value]:
    """Pixel rejection by the number of frames, as NSG chooses it."""
    if count < 8:
        return {"rejection": Enumerated("PercentileClip"), "pcClipLow": 0.2, "pcClipHigh": 0.1}
    if count <= 10:
        return {"rejection": Enumerated("SigmaClip"), "sigmaLow": 3.5, "sigmaHigh": 2.5}
    if count < 20:
        clip = {"sigmaLow": 3.5, "sigmaHigh": 2.2, "winsorizationCutoff": 3.5}
        return {"rejection": Enumerated("WinsorizedSigmaClip"), **clip}
    return {"rejection": Enumerated("Rejection_ESD")}


def parameters(stack: Integration) -> dict[str, Value]:
    """ImageIntegration's parameters besides the frames."""
    return {
        "combination": Enumerated("Average"),
        "weightMode": Enumerated("PSFScaleSNR"),
        "minWeight": 0.0,
        "normalization": Enumerated("LocalNormalization"),
        **rejection(sum(one.enabled for one in stack.inputs)),
        "rejectionNormalization": Enumerated("LocalRejectionNormalization"),
        "subtractPedestals": False,
        "generateDrizzleData": stack.drizzles,
    }


def javascript(stack: Integration) -> str:
    """The script for one stack: Script > Execute Script File, or `PixInsight -r=FILE`."""
    enabled = sum(one.enabled for one in stack.inputs)
    lines = [
        f"// {visible(stack.name)}: {enabled} of {len(stack.inputs)} frames, best first. Made by nsgd.",
        "// Opens ImageIntegration filled in; look it over and press the round button.",
        'var E = (typeof ImageIntegration.LocalNormalization != "undefined")',
        "   ? ImageIntegration : ImageIntegration.prototype;",
        "var P = new ImageIntegration;",
        "P.images = [ // enabled, path, drizzlePath, localNormalizationDataPath",
        ",\n".join(f"   [ {_row(one)} ]" for one in stack.inputs),
        "];",
        *(f"P.{name} = {_literal(value)};" for name, value in parameters(stack).items()),
    ]
    if not stack.noise_known:
        lines += [
            "// The frames do not say their noise: newer versions take the weights from a file instead.",
            'if (typeof E.CSVWeightsFile != "undefined") {',
            "   P.weightMode = E.CSVWeightsFile;",
            f"   P.csvWeightsFilePath = {script_string(stack.weights_path)};",
            "}",
        ]
    lines.append("P.launchInterface();")
    if stack.drizzles:
        lines += [
            "",
            "var D = new DrizzleIntegration; // to be run after ImageIntegration",
            "D.inputData = [ // enabled, path, localNormalizationDataPath",
            ",\n".join(f"   [ {_drizzle_row(one)} ]" for one in stack.inputs if one.drizzle),
            "];",
            "D.enableLocalNormalization = true;",
            "D.launchInterface();",
        ]
    return "\n".join(lines) + "\n"


def _row(one: Input) -> str:
    paths = (one.image, one.drizzle, one.normalization)
    return ", ".join([_literal(one.enabled), *(script_string(path) for path in paths)])


def _drizzle_row(one: Input) -> str:
    return ", ".join([_literal(one.enabled), script_string(one.drizzle), script_string(one.normalization)])


def _literal(value: Value) -> str:
    if isinstance(value, Enumerated):
        return f"E.{value.name}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return script_string(value) if isinstance(value, str) else f"{value:g}"


def process_icons(stacks: Sequence[Integration]) -> bytes:
    """The .xpsm file (Process Icons > Load) with an icon for each stack and its drizzle."""
    root = ET.Element("xpsm", {"version": "1.0", "xmlns": NAMESPACE})
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xsi:schemaLocation", f"{NAMESPACE} {NAMESPACE}/xpsm-1.0.xsd")
    icons = []
    for stack in stacks:
        identifier = f"nsgd_{_identifier(stack.name)}"
        rows = [_table_row(one) for one in stack.inputs]
        _instance(root, "ImageIntegration", identifier, ("images", rows), parameters(stack))
        icons.append(identifier)
        if stack.drizzles:
            identifier += "_drizzle"
            rows = [_drizzle_table_row(one) for one in stack.inputs if one.drizzle]
            _instance(root, "DrizzleIntegration", identifier, ("inputData", rows), {"enableLocalNormalization": True})
            icons.append(identifier)
    for at, identifier in enumerate(icons):
        place = {"xpos": "100", "ypos": str(100 + 60 * at), "workspace": "Workspace01"}
        ET.SubElement(root, "icon", {"id": identifier, "instance": f"{identifier}_instance", **place})
    ET.indent(root, "   ")
    content: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content + b"\n"


def _table_row(one: Input) -> dict[str, Value]:
    return {
        "enabled": one.enabled,
        "path": one.image,
        "drizzlePath": one.drizzle,
        "localNormalizationDataPath": one.normalization,
    }


def _drizzle_table_row(one: Input) -> dict[str, Value]:
    return {"enabled": one.enabled, "path": one.drizzle, "localNormalizationDataPath": one.normalization}


def _instance(
    root: ET.Element,
    process: str,
    identifier: str,
    table: tuple[str, Sequence[Mapping[str, Value]]],
    values: Mapping[str, Value],
) -> None:
    attributes = {"class": process, "version": VERSION, "id": f"{identifier}_instance"}
    instance = ET.SubElement(root, "instance", attributes)
    name, rows = table
    box = ET.SubElement(instance, "table", {"id": name, "rows": str(len(rows))})
    for row in rows:
        line = ET.SubElement(box, "tr")
        for column, value in row.items():
            _cell(line, "td", column, value)
    for parameter, value in values.items():
        _cell(instance, "parameter", parameter, value)


def _cell(parent: ET.Element, tag: str, name: str, value: Value) -> None:
    """A value as PixInsight stores it: strings as the element's text, everything else as an attribute."""
    if isinstance(value, str):
        ET.SubElement(parent, tag, {"id": name}).text = visible(value)
    elif isinstance(value, Enumerated):
        ET.SubElement(parent, tag, {"id": name, "value": value.name})
    else:
        ET.SubElement(parent, tag, {"id": name, "value": _literal(value)})


def _identifier(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
