"""What belongs together: the keys of series and streams, the night of a moment, the order of names.

Series: subs that share a reference and can go into one stack. Stream: one exposure and gain inside it.
Session: one night.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from nsgd.records import HeaderFacts

_HALF_DAY = timedelta(hours=12)
# Runs of digits longer than this are compared piece by piece, so that no name makes a giant number.
_DIGITS = re.compile(r"([0-9]{1,18})")


def series_key(header: HeaderFacts, panel: str = "") -> str:
    """The key of the series that a sub belongs to: equal for subs that can go into one stack.

    Capital letters and spaces of the names make no difference ("M 31" is "m31"). `panel` tells apart fields that
    carry the same object name (a mosaic whose panels are not named).
    """
    parts = (
        _plain(header.object_name),
        _plain(panel),
        _plain(header.filter_name),
        _plain(header.camera),
        f"bin{header.binning}",
        f"{header.width_px}x{header.height_px}",
        header.bayer_pattern or "mono",
    )
    return "|".join(parts)


def stream_key(header: HeaderFacts) -> str:
    """The key of a stream inside its series, e.g. "60s g100"; "?s" where the exposure is not known."""
    exposure = "?s" if header.exposure_s is None else f"{header.exposure_s:g}s"
    return exposure if header.gain is None else f"{exposure} g{header.gain:g}"


def gain_of(stream: str) -> str:
    """The gain in a stream's key, "" where it states none."""
    return stream.partition(" g")[2]


def session_of(utc_s: float, zone: tzinfo | None) -> str:
    """The night of a moment: its local date minus 12 hours, "YYYY-MM-DD".

    Parameters
    ----------
    utc_s
        Seconds since 1970-01-01 UTC.
    zone
        Zone of the site; None is the system's.
    """
    return night_start(utc_s, zone).date().isoformat()


def night_start(utc_s: float, zone: tzinfo | None) -> datetime:
    """Local noon that begins the night of a moment (wall-clock arithmetic: a change of the clocks moves nothing)."""
    # An epoch plus a difference, since fromtimestamp refuses negative times on some systems.
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=utc_s)).astimezone(zone)
    return (local - _HALF_DAY).replace(hour=12, minute=0, second=0, microsecond=0)


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key of natural name order: "sub_9" comes before "sub_10", capitals make no difference."""
    pieces = _DIGITS.split(name.casefold())
    # Names between digits stand at even places and digits at odd ones, so like is compared with like.
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(pieces)), name


def _plain(name: str) -> str:
    return "".join(name.split()).casefold().replace("|", "/")
