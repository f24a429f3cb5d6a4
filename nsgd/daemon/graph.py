"""The picture that goes with an alert: the night so far, drawn from the store when the message is sent."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path

from nsgd.pictures import Caption, night_graph
from nsgd.records import Alert, SkyState, SubRow, Verdict
from nsgd.session.judge import Columns, judge
from nsgd.session.series import session_of
from nsgd.session.sky import observe, states
from nsgd.session.store import Reader
from nsgd.settings import Limits

PICTURES = "pictures"
KEEP_S = 86400.0


def draw_alert(reader: Reader, alert: Alert, limits: Limits, zone: tzinfo | None, state: SkyState) -> Path | None:
    """Draw the alert's night into the store's folder; None where there is nothing to draw."""
    night = session_of(alert.created_utc_s, zone)
    found = _judged(reader, night, limits)
    if not found:
        return None
    rows, verdicts = [row for row, _ in found], [verdict for _, verdict in found]
    caption = Caption(alert.title, alert.body.split("\n")[0], SkyState.CLEAR if alert.resolves else state)
    png = night_graph(rows, verdicts, caption, cut_off=limits.transmission, zone=zone)
    folder = reader.folder / PICTURES
    folder.mkdir(exist_ok=True)
    path = folder / f"{alert.event_id}-{alert.created_utc_s:.0f}.png"
    path.write_bytes(png)
    return path


def trim_pictures(folder: Path) -> None:
    """Drop pictures of alerts that are older than a day."""
    for path in (folder / PICTURES).glob("*.png"):
        if time.time() - path.stat().st_mtime > KEEP_S:
            path.unlink(missing_ok=True)


def _judged(reader: Reader, night: str, limits: Limits) -> list[tuple[SubRow, Verdict]]:
    """Measured subs of one night with their verdicts within their whole series and the state of their sky."""
    found: list[tuple[SubRow, Verdict]] = []
    for series in reader.series():
        rows = reader.subs(series_id=series.series_id)
        if any(row.session == night for row in rows):
            verdicts = judge(Columns.from_rows(rows), series, limits)
            found += [(row, verdicts.of(row.sub_id)) for row in rows if row.session == night]
    found.sort(key=lambda pair: pair[0].order_utc_s)
    skies = states(observe(row, verdict) for row, verdict in found)
    return [(row, replace(verdict, sky_state=skies[row.sub_id])) for row, verdict in found]
