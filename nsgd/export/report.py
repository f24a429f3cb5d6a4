"""`nsgd export report`: the morning's page: one HTML file that needs no network, no script and no second file.

Numbers come from `tally`, pictures from `graphs` and `pictures`; here they become a page that reads well on a phone.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, tzinfo
from importlib.resources import files as resources
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from nsgd.config import zone_of
from nsgd.errors import ExportProblem
from nsgd.export.files import open_folder, write_bytes
from nsgd.export.graphs import Axes, Point, bar, compass, local_time, over_time, padded_range
from nsgd.export.judged import Judged, judged
from nsgd.export.outcome import Outcome, Progress, no_progress
from nsgd.export.tally import Spell, Tally, spells, tally
from nsgd.export.text import html_text, plain_name
from nsgd.frames.preview import load_preview
from nsgd.pictures import Caption, Stretch, auto_stretch, night_graph
from nsgd.records import Floats32, SeriesRow, SubRow, SubStatus
from nsgd.session.store import AlertRow, Reader
from nsgd.settings import Settings

NAMED_COLOURS: Final = ("L", "R", "G", "B", "Ha", "OIII", "SII")
OTHER_COLOURS: Final = 5
THUMBNAIL_PX: Final = 168
"""Width of a table picture: twice its size on the page, for sharp screens."""
MOST_LARGE: Final = 250
"""Beyond so many subs the pictures are made half as wide."""
LOST_COLOURS: Final = 4
NARROW: Final = "\N{NARROW NO-BREAK SPACE}"
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The page may load nothing, whatever a header has smuggled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """What the page of one session is made from."""

    session: str
    found: Judged
    rows: Sequence[SubRow]
    """The session's subs, in mid-exposure order."""
    alerts: Sequence[AlertRow]
    zone: tzinfo | None
    spells: Sequence[Spell]
    total: Tally

    @property
    def series(self) -> list[SeriesRow]:
        """The series that have subs in this session."""
        present = {row.series_id for row in self.rows}
        return [series for series_id, series in self.found.series.items() if series_id in present]

    def clock(self, utc_s: float) -> str:
        """Local time, hours and minutes."""
        return f"{local_time(utc_s, self.zone):%H:%M}"

    @property
    def timed(self) -> list[SubRow]:
        """The subs whose time is known; the others stand in the order of their names."""
        return [row for row in self.rows if _timed(row)]

    @property
    def exposed(self) -> bool:
        """Whether any file says how long it was exposed."""
        return self.total.hours > 0

    def places(self, rows: Sequence[SubRow]) -> list[float]:
        """Where subs stand along a graph: their times, or their numbers where none is known."""
        if self.timed:
            return [row.order_utc_s for row in rows]
        return [float(number) for number in range(1, len(rows) + 1)]


def _timed(row: SubRow) -> bool:
    return row.header.mid_utc_s is not None and not row.order_flag


def export_report(
    reader: Reader,
    out: Path,
    settings: Settings,
    *,
    session: str | None = None,
    force: bool = False,
    progress: Progress = no_progress,
) -> Outcome:
    """Write OUT/report_SESSION.html and the transmission graph as a PNG.

    Parameters
    ----------
    session
        The night, "YYYY-MM-DD"; None is the newest.

    Raises
    ------
    ExportProblem
        There are no subs, or none of that night, or --out cannot be written.
    """
    found = judged(reader, settings)
    night = _night(reader, found, session, zone_of(settings))
    out = open_folder(out)
    name = plain_name(night.session) or "night"
    thumbnails = _thumbnails(reader, night, progress)
    page = _page(night, thumbnails)
    files = [write_bytes(out, f"report_{name}.html", page.encode("utf-8"), force=force)]
    if any(row.sub_id in found.verdicts for row in night.rows):
        files.append(write_bytes(out, f"transmission_{name}.png", _png(night), force=force))
    return Outcome(tuple(files), (_sentence(night),))


def _night(reader: Reader, found: Judged, session: str | None, zone: tzinfo | None) -> Night:
    sessions = sorted({row.session for row in found.rows})
    if not sessions:
        raise ExportProblem("The store holds no subs yet: there is no night to report.")
    if session is not None and session not in sessions:
        raise ExportProblem(f"The store knows no night {session}; the newest is {sessions[-1]}.")
    chosen = session or sessions[-1]
    rows = [row for row in found.rows if row.session == chosen]
    return Night(chosen, found, rows, reader.alerts(chosen), zone, spells(found, rows), tally(found, rows))


def _png(night: Night) -> bytes:
    """The graph that alerts carry, for sending on."""
    rows = [row for row in night.rows if row.sub_id in night.found.verdicts]
    caption = Caption(_title(night), _sentence(night))
    return night_graph(rows, [night.found.verdicts[row.sub_id] for row in rows], caption, zone=night.zone)


# --- the page ----------------------------------------------------------------------------------------------------


def _page(night: Night, thumbnails: Mapping[int, str]) -> str:
    style = (resources("nsgd.export") / "report.css").read_text(encoding="utf-8")
    title = html_text(_title(night))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{style}</style></head><body>",
        f"<header><h1>{title}</h1><p>{html_text(_subtitle(night))}</p></header>",
        f'<p class="lead">{html_text(_sentence(night))}</p>',
        _tiles(night),
        _time_card(night.total),
        "<h2>The night</h2>",
        _legend(night),
        "" if night.timed else "<p>The files hold no times: the graphs count the subs in the order of their names.</p>",
        _graphs(night),
        "<h2>Filters</h2>",
        f'<div class="series">{"".join(_series_card(night, series) for series in night.series)}</div>',
        "<h2>What happened</h2>",
        _time_line(night),
        _all_nights(night),
        "<h2>Subs</h2>",
        _sub_table(night, thumbnails),
        "<footer>Made by nsgd. Crosses are subs that do not go into the stack; dashed lines are the cut-offs; "
        "shaded times were not clear.</footer>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _title(night: Night) -> str:
    names = list(dict.fromkeys(series.object_name for series in night.series if series.object_name))
    objects = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{objects or 'The night'} · {_day(night.session)}"


def _day(session: str) -> str:
    try:
        day = date.fromisoformat(session)
    except ValueError:
        return session
    return f"{day.day} {day:%B %Y}"


def _subtitle(night: Night) -> str:
    times = [row.order_utc_s for row in night.timed]
    filters = list(dict.fromkeys(_filter(series) for series in night.series))
    cameras = list(dict.fromkeys(series.camera for series in night.series if series.camera))
    span = f"{night.clock(min(times))} to {night.clock(max(times))}" if times else "no times in the files"
    return " · ".join(part for part in (span, f"{len(night.rows)} subs", ", ".join(filters), *cameras[:2]) if part)


def _filter(series: SeriesRow) -> str:
    return "no filter" if series.filter_name == "none" else series.filter_name


def _sentence(night: Night) -> str:
    """The night in one or two sentences."""
    total = night.total
    begin = f"{total.kept} of {total.subs} subs kept, {_hours(total.kept_hours)} of {_hours(total.hours)}."
    if not total.hours:
        return f"{total.kept} of {total.subs} subs kept; the files do not say how long they were exposed."
    if not total.lost:
        return begin
    cause, hours = next(iter(total.lost.items()))
    return f"{begin} Lost: {_hours(total.lost_hours)}, mostly to {cause} ({_hours(hours)})."


def _of_known(total: Tally, hours: float) -> str:
    """Some of the hours, "?" where no file says how long it was exposed."""
    return _hours(hours) if total.hours else "?"


def _hours(hours: float) -> str:
    minutes = round(hours * 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _tiles(night: Night) -> str:
    total, good = night.total, [row for row in night.rows if night.found.accepted(row)]
    kept = 100.0 * total.kept_hours / total.hours if total.hours else math.nan
    worth = 100.0 * total.effective_hours / total.kept_hours if total.kept_hours else math.nan
    sent = sum(delivery.state == "sent" for row in night.alerts for delivery in row.deliveries)
    time_tiles = (
        ("Kept", _hours(total.kept_hours), f"{_percent(kept)} of {_hours(total.hours)}"),
        ("Lost", _hours(total.lost_hours), f"{total.subs - total.kept} subs"),
        ("Worth", _hours(total.effective_hours), f"of the best sky, {_percent(worth)} of what is kept"),
    )
    sub_tiles = (
        ("Kept", f"{total.kept} subs", f"of {total.subs}, exposure unknown"),
        ("Lost", f"{total.subs - total.kept} subs", "exposure unknown"),
    )
    tiles = (
        *(time_tiles if total.hours else sub_tiles),
        ("Stars", f"{_median(row.fwhm_px for row in good):.1f} px", f"median FWHM of {len(good)} subs"),
        ("Alerts", str(len(night.alerts)), f"{sent} messages delivered" if night.alerts else "nothing to tell"),
    )
    boxes = (
        f'<div class="card tile"><span class="label">{label}</span><b>{html_text(value)}</b>'
        f"<span>{html_text(line)}</span></div>"
        for label, value, line in tiles
    )
    return f'<div class="tiles">{"".join(boxes)}</div>'


def _percent(value: float) -> str:
    return f"{value:.0f}{NARROW}%" if math.isfinite(value) else "?"


def _median(values: Iterable[float]) -> float:
    seen = [value for value in values if math.isfinite(value)]
    return float(np.median(seen)) if seen else math.nan


def _time_card(total: Tally) -> str:
    """Where the time went: a bar and its legend."""
    if not total.hours:
        return ""
    shares = [(total.kept_hours, "kept", f"kept {_hours(total.kept_hours)}")]
    shares += [
        (hours, f"l-{min(at, LOST_COLOURS - 1)}", f"{cause} {_hours(hours)}")
        for at, (cause, hours) in enumerate(total.lost.items())
    ]
    legend = "".join(f'<li><i class="{colour}"></i>{html_text(text)}</li>' for _, colour, text in shares)
    drawn = bar([share for share in shares if share[0] > 0])
    return f'<div class="card time"><h3>Where the time went</h3>{drawn}<ul class="legend">{legend}</ul></div>'


def _colours(night: Night) -> dict[int, str]:
    """CSS class of every series: its filter's own colour, else one of a few."""
    classes: dict[int, str] = {}
    for series in night.series:
        name = series.filter_name
        taken = set(classes.values())
        if name in NAMED_COLOURS and f"c-{name}" not in taken:
            classes[series.series_id] = f"c-{name}"
        else:
            free = (f"c-{number}" for number in range(OTHER_COLOURS) if f"c-{number}" not in taken)
            classes[series.series_id] = next(free, "c-4")
    return classes


def _label(night: Night, series: SeriesRow) -> str:
    """The filter, with the object where there are several."""
    several = len({one.object_name for one in night.series}) > 1
    filter_name = "" if series.filter_name == "none" else series.filter_name
    object_name = series.object_name if several or not filter_name else ""
    return " ".join(part for part in (object_name, filter_name) if part) or "Subs"


def _legend(night: Night) -> str:
    colours = _colours(night)
    items = [
        f'<li class="{colours[series.series_id]}"><i style="background:currentColor;border-radius:50%"></i>'
        f'<span style="color:var(--text)">{html_text(_label(night, series))}</span></li>'
        for series in night.series
    ]
    items.append('<li><span class="x">×</span>not in the stack</li>')
    return f'<ul class="legend" style="margin-bottom:10px">{"".join(items)}</ul>'


# --- graphs ------------------------------------------------------------------------------------------------------


def _graphs(night: Night) -> str:
    figures: tuple[tuple[str, str, Callable[[SubRow], float], str, float | None], ...] = (
        ("Transmission", "of clear sky, expected extinction taken out", _transmission(night), "%", 0.0),
        ("Weight", "per exposure, of the best sub of each filter", _weight(night), "%", 0.0),
        ("Star size", "FWHM in pixels", lambda row: row.fwhm_px, "", None),
        ("Sky brightness", f"ADU{' a second' * night.exposed}, mean of the frame", _sky_brightness(night), "", None),
        ("Gradient", "amplitude across the frame against the reference, ADU", _gradient, "", 0.0),
    )
    cards = [_graph(night, *figure) for figure in figures]
    points = _points(night, lambda row: row.relation.gradient_y_adu if row.relation else math.nan)
    vectors = [
        Point(row.relation.gradient_x_adu if row.relation else math.nan, point.y, point.colour, point.kept, point.title)
        for point, row in zip(points, _drawn_rows(night), strict=True)
    ]
    cards.append(
        '<div class="card"><h3>Gradient direction</h3><p>towards the brighter side of the frame, ADU</p>'
        f"{compass(vectors, 'Gradient direction', '')}</div>"
    )
    return f'<div class="graphs">{"".join(cards)}</div>'


def _graph(
    night: Night, title: str, line: str, value: Callable[[SubRow], float], unit: str, floor: float | None
) -> str:
    points = _points(night, value)
    low, high = padded_range((point.y for point in points), floor)
    cuts: Sequence[float] = ()
    if unit == "%":
        low, high = 0.0, max(105.0, min(high, 125.0))
        cuts = sorted({100.0 * getattr(limits, title.lower()) for limits in _limits(night)})
    times, numbered = night.places(night.rows), not night.timed
    room = max(0.02 * (max(times) - min(times)), 0.5 if numbered else 120.0)
    axes = Axes(
        min(times) - room,
        max(times) + room,
        night.zone,
        low,
        high,
        unit,
        cuts,
        [] if numbered else [(spell.begin_utc_s, spell.end_utc_s) for spell in night.spells],
        [(row.alert.created_utc_s, row.alert.title) for row in night.alerts if _within(row, min(times), max(times))],
        numbered,
    )
    return f'<div class="card"><h3>{title}</h3><p>{line}</p>{over_time(points, axes, title)}</div>'


def _within(row: AlertRow, begin: float, end: float) -> bool:
    """Alerts of a replayed or measured night may have been made at another time."""
    return begin - 900.0 <= row.alert.created_utc_s <= end + 3600.0


def _limits(night: Night) -> list[object]:
    return [night.found.limits[series.series_id] for series in night.series if series.series_id in night.found.limits]


def _drawn_rows(night: Night) -> list[SubRow]:
    return [row for row in night.rows if row.series_id in night.found.series]


def _points(night: Night, value: Callable[[SubRow], float]) -> list[Point]:
    colours, rows = _colours(night), _drawn_rows(night)
    return [
        Point(place, value(row), colours[row.series_id], night.found.accepted(row), _hint(night, row))
        for place, row in zip(night.places(rows), rows, strict=True)
    ]


def _hint(night: Night, row: SubRow) -> str:
    verdict = night.found.verdicts.get(row.sub_id)
    figures = "" if verdict is None else f", {_percent(100 * verdict.transmission_clear)} of clear sky"
    when = f"{night.clock(row.order_utc_s)} " if _timed(row) else ""
    return f"{when}{Path(row.path).name}{figures}"


def _transmission(night: Night) -> Callable[[SubRow], float]:
    """Failed subs stand at 0: no light was measured."""

    def value(row: SubRow) -> float:
        verdict = night.found.verdicts.get(row.sub_id)
        return 0.0 if row.failure or verdict is None else 100.0 * verdict.transmission_clear

    return value


def _weight(night: Night) -> Callable[[SubRow], float]:
    def value(row: SubRow) -> float:
        verdict = night.found.verdicts.get(row.sub_id)
        return 0.0 if row.failure or verdict is None else 100.0 * verdict.weight_of_best

    return value


def _sky_brightness(night: Night) -> Callable[[SubRow], float]:
    """Per second, or per sub where no file says how long it was exposed."""

    def value(row: SubRow) -> float:
        exposure_s = (row.header.exposure_s or math.nan) if night.exposed else 1.0
        return float(np.mean(row.sky_adu)) / exposure_s if row.sky_adu else math.nan

    return value


def _gradient(row: SubRow) -> float:
    if row.relation is None:
        return math.nan
    return math.hypot(row.relation.gradient_x_adu, row.relation.gradient_y_adu)


# --- filters, events, nights -------------------------------------------------------------------------------------


def _series_card(night: Night, series: SeriesRow) -> str:
    found = night.found
    tonight = [row for row in night.rows if row.series_id == series.series_id]
    ever = [row for row in found.rows if row.series_id == series.series_id]
    now, total = tally(found, tonight), tally(found, ever)
    good = [row for row in tonight if found.accepted(row)]
    reference = next((row for row in ever if row.sub_id == series.reference_id), None)
    lines = [
        ("Kept", f"{now.kept} of {now.subs} subs{f', {_hours(now.kept_hours)}' * bool(now.hours)}"),
        ("Worth", f"{_hours(now.effective_hours)} of the best sky" * bool(now.hours)),
    ]
    if len(ever) > len(tonight) and total.hours:
        lines.append(("All nights", f"{_hours(total.kept_hours)} kept, worth {_hours(total.effective_hours)}"))
    lines += [(cause.capitalize(), f"− {_hours(hours)}") for cause, hours in now.lost.items() if now.hours]
    if good:
        sizes = [row.fwhm_px for row in good]
        lines.append(("Star size", f"{_median(sizes):.1f} px, {min(sizes):.1f} to {max(sizes):.1f}"))
    if reference is not None:
        chosen = "chosen by you" if series.reference_chosen else "chosen by nsgd"
        lines.append(("Reference", f"{Path(reference.path).name}, {chosen}"))
        lines.append(("Why", found.references.get(series.series_id, "")))
    rows = "".join(f"<dt>{html_text(name)}</dt><dd>{html_text(text)}</dd>" for name, text in lines if text)
    colour = _colours(night)[series.series_id]
    name = html_text(_label(night, series))
    return f'<div class="card"><h3 class="{colour}"><span>{name}</span></h3><dl>{rows}</dl></div>'


def _time_line(night: Night) -> str:
    """Spells of bad sky and alerts, in time order."""
    first, last = night.rows[0].order_utc_s, max(row.order_utc_s for row in night.rows)
    events = [(first, "good", "First sub", Path(night.rows[0].path).name)]
    for spell in night.spells:
        depth = f"down to {_percent(100 * spell.lowest)} of clear sky" if math.isfinite(spell.lowest) else "no stars"
        until = f"until {night.clock(spell.end_utc_s)}"
        events.append((spell.begin_utc_s, "bad", spell.cause.capitalize(), f"{until}, {depth}"))
    events += [(row.alert.created_utc_s, "mark", row.alert.title, _delivered(row)) for row in night.alerts]
    events.append((last, "good", "Last sub", Path(night.rows[-1].path).name))
    events.sort(key=lambda event: event[0])
    items = "".join(
        f'<li class="{kind}"><time>{night.clock(moment) if night.timed else "–"}</time><span><b>{html_text(title)}</b>'
        f"<small>{html_text(line)}</small></span></li>"
        for moment, kind, title, line in events
    )
    return f'<div class="card"><ol class="line">{items}</ol></div>'


def _delivered(row: AlertRow) -> str:
    """What the alert said and where it went."""
    parts = [f"{delivery.service}: {delivery.state}" for delivery in row.deliveries]
    return " · ".join(part for part in (row.alert.body.replace("\n", " "), ", ".join(parts)) if part)


def _all_nights(night: Night) -> str:
    """Hours of every night and filter, where there is more than one night."""
    found = night.found
    sessions = sorted({row.session for row in found.rows}, reverse=True)
    if len(sessions) < 2:
        return ""
    lines = []
    for session in sessions:
        for series_id, series in found.series.items():
            rows = [row for row in found.rows if row.session == session and row.series_id == series_id]
            if rows:
                sums = tally(found, rows)
                lines.append(
                    f"<tr><td>{html_text(_day(session))}</td><td>{html_text(_label(night, series))}</td>"
                    f'<td class="n">{sums.kept} / {sums.subs}</td><td class="n">{_of_known(sums, sums.kept_hours)}</td>'
                    f'<td class="n">{_of_known(sums, sums.lost_hours)}</td>'
                    f'<td class="n">{_of_known(sums, sums.effective_hours)}</td></tr>'
                )
    head = '<tr><th>Night</th><th>Filter</th><th class="n">Subs</th><th class="n">Kept</th><th class="n">Lost</th>'
    return (
        f'<h2>All nights</h2><div class="card wide"><table><thead>{head}<th class="n">Worth</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


# --- table of subs -----------------------------------------------------------------------------------------------


def _sub_table(night: Night, thumbnails: Mapping[int, str]) -> str:
    head = "".join(f"<th{' class=n' if name in NUMBERS else ''}>{name}</th>" for name in ("", "Sub", "", *NUMBERS))
    rows = "".join(_sub_line(night, row, thumbnails.get(row.sub_id, "")) for row in night.rows)
    return (
        f'<div class="card wide"><table class="subs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


NUMBERS: Final = {"Transmission": "Transm.", "Weight": "Weight", "FWHM": "FWHM", "Sky": "Sky", "Stars": "Stars"}
"""Columns of figures, and what they are called where there is little room."""


def _sub_line(night: Night, row: SubRow, picture: str) -> str:
    verdict = night.found.verdicts.get(row.sub_id)
    status = verdict.status if verdict else SubStatus.FAILED
    reasons = "; ".join(verdict.reasons) if verdict else (row.failure.sentence if row.failure else "")
    relation, missing = row.relation, math.nan
    figures = (
        _percent(100 * verdict.transmission_clear) if verdict else "?",
        _percent(100 * verdict.weight_of_best) if verdict else "?",
        _figure(row.fwhm_px, 1, " px"),
        _figure(float(np.mean(row.sky_adu)) if row.sky_adu else missing, 0, ""),
        str(relation.stars_used) if relation else "?",
    )
    cells = "".join(
        f'<td class="n" data-l="{name}">{text}</td>' for name, text in zip(NUMBERS.values(), figures, strict=True)
    )
    image = f'<img src="{picture}" alt="" loading="lazy">' if picture else ""
    series = night.found.series.get(row.series_id)
    colour = _colours(night).get(row.series_id, "c-4")
    why = f'<span class="why">{html_text(reasons)}</span>' if reasons else ""
    clock = f"{local_time(row.order_utc_s, night.zone):%H:%M:%S}" if _timed(row) else "time unknown"
    when = f"{clock} · {_filter(series) if series else 'unknown'}"
    return (
        f'<tr><td class="pic">{image}</td><td class="file">{html_text(Path(row.path).name)}'
        f'<span class="when {colour}">{html_text(when)}</span>{why}</td>'
        f'<td class="state"><span class="badge {status}">{status}</span></td>{cells}</tr>'
    )


def _figure(value: float, digits: int, unit: str) -> str:
    return f"{value:.{digits}f}{unit}" if math.isfinite(value) else "?"


def _thumbnails(reader: Reader, night: Night, progress: Progress) -> dict[int, str]:
    """Pictures of the subs as data URLs.

    All subs of a series are stretched alike and brought to one sky level, as for blinking: cloud takes stars away,
    gradients show.
    """
    wide = THUMBNAIL_PX if len(night.rows) <= MOST_LARGE else THUMBNAIL_PX // 2
    stretches: dict[int, list[tuple[float, Stretch]]] = {}
    found: dict[int, str] = {}
    reference_first = sorted(night.rows, key=lambda row: not _is_reference(night, row))
    for done, row in enumerate(reference_first, start=1):
        progress(done, len(reference_first), Path(row.path).name)
        preview = load_preview(reader.preview_path_of(row.content_id))
        if preview is None:
            continue
        planes = list(np.moveaxis(preview.pixels, 2, 0))
        if row.series_id not in stretches:
            stretches[row.series_id] = [(float(np.nanmedian(plane)), auto_stretch(plane)) for plane in planes]
        found[row.sub_id] = _data_url(planes, stretches[row.series_id], wide)
    return found


def _is_reference(night: Night, row: SubRow) -> bool:
    series = night.found.series.get(row.series_id)
    return series is not None and series.reference_id == row.sub_id


def _data_url(planes: Sequence[Floats32], stretches: Sequence[tuple[float, Stretch]], wide_px: int) -> str:
    """A stretched JPEG; noise makes a PNG of this size ten times larger."""
    screens = [
        stretch(plane - np.float32(np.nanmedian(plane) - sky))
        for plane, (sky, stretch) in zip(planes, stretches, strict=True)
    ]
    image = Image.fromarray(screens[0] if len(screens) == 1 else np.stack(screens, axis=-1))
    image.thumbnail((wide_px, wide_px), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
