"""Coverage-guided fuzzing of each reader, with the hostile corpus as its seeds.

    pip install atheris        (Python 3.11 to 3.13)
    python -m tests.benchmarks.intake_fuzz header|fits|gz|fz|xisf|exif|tiff|raw [--seconds 600]

A finding is any exception that is not the reader's own, more than 5 seconds for one input, or more than
a gigabyte of memory. The readers that hand the work to a foreign library (fz, tiff, raw) run in the worker
process, where an exception of that library is no finding but a crash, a hang and memory are.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris
import numpy as np
from PIL import Image

with atheris.instrument_imports(include=["nsgd"]):
    from nsgd.errors import FileProblem
    from nsgd.frames import exif, fits, packed, raw, tiff, xisf
    from nsgd.frames.header import facts
    from nsgd.frames.planes import frame_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "frames"))
from framefiles import card, data_bytes, dng, header_bytes, mandatory
from hostile import PIXELS, tile_compressed, write_all

BUDGET_BYTES = 64_000_000


def header(data: bytes) -> None:
    facts(fits.parse_cards(data), Path("a.fits"))


def plain(data: bytes) -> None:
    source = io.BytesIO(data)
    header = facts(fits.read_cards(source)[0], Path("a.fits"))
    fits.declared_bytes(source, len(data))
    with tempfile.TemporaryFile(buffering=0) as file:  # what is read in parts needs a file of the system
        file.write(data)
        file.seek(0)
        frame_of(Path("a.fits"), header, fits.decode(file, BUDGET_BYTES))


def gz(data: bytes) -> None:
    packed.gz_decode(io.BytesIO(data), BUDGET_BYTES)  # type: ignore[arg-type]


def fz(data: bytes) -> None:
    foreign(lambda: packed.fz_decode(io.BytesIO(data), BUDGET_BYTES, len(data)))  # type: ignore[arg-type]


def xisf_file(data: bytes) -> None:
    source = io.BytesIO(data)
    xisf.declared_bytes(source)
    facts(xisf.decode(source, BUDGET_BYTES).cards, Path("a.xisf"))


def exif_head(data: bytes) -> None:
    facts(exif.exposure_cards(exif.read_entries(io.BytesIO(data))), Path("a.cr3"))


def tiff_file(data: bytes) -> None:
    foreign(lambda: tiff.tiff_decode(io.BytesIO(data), BUDGET_BYTES))


def raw_file(data: bytes) -> None:
    foreign(lambda: raw.raw_decode(io.BytesIO(data), BUDGET_BYTES))


def foreign(call: Callable[[], object]) -> None:
    try:
        call()
    except FileProblem:
        raise
    except Exception:  # noqa: BLE001, S110 - the worker's door survives these
        pass


READERS: dict[str, tuple[Callable[[bytes], None], tuple[str, ...]]] = {
    "header": (header, (".fits",)), "fits": (plain, (".fits",)), "gz": (gz, (".gz",)), "fz": (fz, (".fz",)),
    "xisf": (xisf_file, (".xisf",)), "exif": (exif_head, (".tif", ".cr2", ".cr3")), "tiff": (tiff_file, (".tif",)),
    "raw": (raw_file, (".cr2", ".nef", ".arw", ".cr3")),
}  # fmt: skip


def good_files(reader: str) -> Iterator[bytes]:
    """Whole files, which the hostile corpus has few of: damage to them comes deep into the reader."""
    if reader == "gz":
        yield gzip.compress(header_bytes(mandatory(PIXELS)) + data_bytes(PIXELS), 0)
    elif reader == "fits":
        for pattern in ("RGGB", "GRBG"):
            yield header_bytes([*mandatory(PIXELS), card("BAYERPAT", pattern)]) + data_bytes(PIXELS)
    elif reader == "fz":
        for codec in ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"):
            yield tile_compressed(PIXELS.astype(np.int16), codec, (16, 16))
    elif reader in ("raw", "exif"):
        yield dng(PIXELS)
    elif reader == "tiff":
        for packing in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            buffer = io.BytesIO()
            Image.fromarray(PIXELS).save(buffer, "tiff", compression=packing, tiffinfo={270: "FILTER  = 'Ha'"})
            yield buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    read, suffixes = READERS[arguments.reader]

    def one_input(data: bytes) -> None:
        try:
            read(data)
        except FileProblem:
            return

    work = Path(tempfile.mkdtemp(prefix=f"fuzz_{arguments.reader}_"))
    (work / "made").mkdir()
    (work / "corpus").mkdir()
    for path, _ in write_all(work / "made"):
        if path.name.endswith(suffixes) and path.is_file() and path.stat().st_size < 100_000:
            (work / "corpus" / f"{len(list((work / 'corpus').iterdir()))}").write_bytes(path.read_bytes())
    for number, content in enumerate(good_files(arguments.reader)):
        (work / "corpus" / f"good{number}").write_bytes(content)
    atheris.Setup(
        [sys.argv[0], str(work / "corpus"), f"-max_total_time={arguments.seconds}", "-timeout=5", "-rss_limit_mb=1024",
         "-max_len=20000", "-print_final_stats=1", f"-artifact_prefix={work}/"],
        one_input,
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
