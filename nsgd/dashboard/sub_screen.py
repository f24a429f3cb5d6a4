"""Everything about one sub: header facts, registration, photometry, gradient, picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import ContentSwitcher, Static

from nsgd.dashboard.board import BoardScreen, Keys
from nsgd.dashboard.canvas import Canvas, Ink, Run
from nsgd.dashboard.figures import local_time
from nsgd.dashboard.graphs import Curve, Drawing, Figure, Graph, Level
from nsgd.dashboard.inert import inert
from nsgd.dashboard.picture import Picture, diverging
from nsgd.dashboard.sharp import best_picture
from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.study import (
    Pictures,
    Stars,
    Study,
    gradient_maps,
    lay_reference,
    lay_sub,
    local_transmission,
    read_pictures,
    read_study,
    stars_of,
)
from nsgd.errors import NsgdError
from nsgd.overlay import Stretch, shared_stretch, sight, sky_of
from nsgd.records import Floats, SubRow, Verdict

PAGES = {"about": "Facts", "stars": "Stars", "photometry": "Photometry", "gradient": "Gradient", "picture": "Picture"}
SHOWN = {"corrected": "corrected sub", "uncorrected": "sub, not corrected", "reference": "reference"}

MOST_FACTOR = 1000.0
"""Star vectors are drawn no longer than so many times their length: what is left then is no shift."""


class SubScreen(BoardScreen):
    """One sub on five pages; left and right walk through the night."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("question_mark,f1", "app.help", "Help", key_display="?"),
        Binding("right_square_bracket,right,l", "step(1)", "Next sub", show=False),
        Binding("left_square_bracket,left,h", "step(-1)", "Sub before", show=False),
        Binding("tab", "page(1)", "Next page"),
        Binding("shift+tab", "page(-1)", "Page before", show=False),
        *[Binding(str(i), f"open('{name}')", title, show=False) for i, (name, title) in enumerate(PAGES.items(), 1)],
        Binding("u", "show('uncorrected')", "Correction on/off", show=False),
        Binding("b,space", "show('reference')", "Blink reference", show=False),
        Binding("plus,equals_sign", "knob(1)", "More", show=False),
        Binding("minus", "knob(-1)", "Less", show=False),
        Binding("comma", "smoother(-0.5)", "Follow more", show=False),
        Binding("full_stop", "smoother(0.5)", "Smoother", show=False),
        Binding("less_than_sign", "stretch(0.7)", "Darker", show=False),
        Binding("greater_than_sign", "stretch(1.4)", "Brighter", show=False),
        Binding("H", "pan(-1, 0)", "Pan left", show=False),
        Binding("L", "pan(1, 0)", "Pan right", show=False),
        Binding("K,up,k", "pan(0, -1)", "Pan up", show=False),
        Binding("J,down,j", "pan(0, 1)", "Pan down", show=False),
        Binding("v", "ratios", "Ratios", show=False),
        Binding("c", "channel", "Next colour", show=False),
        Binding("enter", "apply", "Keep smoothness", show=False),
    ]

    def __init__(self, sub_id: int, step: Callable[[int], int]) -> None:
        super().__init__(id="sub")
        self._sub_id = sub_id
        self._step = step
        self._row: SubRow | None = None
        self._study: Study | None = None
        self._pictures = Pictures(None, None)
        self._problem = ""
        self._smoothness = 0.0
        self._show = "corrected"
        self._zoom = 1
        self._centre = (0.5, 0.5)
        self._stretch: Stretch | None = None
        self._brighter = 1.0
        self._as_ratios = False
        self._channel = 0

    def compose(self) -> ComposeResult:
        yield StateLine()
        yield Static(id="subhead", markup=False)
        yield Static(id="pages", markup=False)
        with Horizontal(id="subbody"):
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="facts-text", markup=False)
            with ContentSwitcher(id="page", initial="photometry" if self.app.size.width >= 110 else "about"):
                with VerticalScroll(id="about", can_focus=False):
                    yield Static(id="about-text", markup=False)
                with Vertical(id="stars"):
                    yield Static(id="registration", markup=False)
                    yield StarField("field")
                with Vertical(id="photometry"):
                    yield Graph("flux", clock=False)
                    yield Static(id="local", markup=False)
                with Vertical(id="gradient"):
                    yield Static(id="gradient-text", markup=False)
                    with Horizontal(id="maps"):
                        for name in ("before", "surface", "after"):
                            yield Picture(id=name)
                with Vertical(id="picture"):
                    yield best_picture("look", self.board.graphics)
        yield Keys()

    def on_mount(self) -> None:
        self.begin()
        self.set_looks()
        self._load()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def set_looks(self) -> None:
        super().set_looks()
        self._draw()

    # --- data ------------------------------------------------------------------------------------

    def night_changed(self, touched: set[int]) -> None:
        if self._row is not None and self._row.series_id in touched and not self.board.frozen:
            self._load()

    def _load(self) -> None:
        """Read what the store knows about the sub and draw it."""
        self._study, self._problem, self._stretch = None, "", None
        self._pictures = Pictures(None, None)
        try:
            with self.board.open_reader() as reader:
                self._row = reader.sub(self._sub_id)
                series = self.board.night.series.get(self._row.series_id)
                if series is not None:
                    self._study = read_study(reader, self._row, series)
                    self._pictures = read_pictures(reader, self._study) if self._study else self._pictures
                    self._smoothness = series.smoothness
        except NsgdError as problem:
            self._problem = problem.sentence
        self._draw()

    # --- drawing ---------------------------------------------------------------------------------

    def _draw(self) -> None:
        row = self._row
        if not self.drawable:
            return
        if row is None:
            self.query_one("#subhead", Static).update(Text(inert(self._problem)))
            return
        verdict = self.board.night.verdict(row)
        head = Text(f"{inert(row.path.rsplit('/', 1)[-1], 70)}  ", "bold")
        head.append("; ".join((verdict.status.value, *(inert(reason) for reason in verdict.reasons))), "")
        if self._study is not None and self._study.reference_row.sub_id == row.sub_id:
            head.append("  this is the reference: it is compared with itself", "italic")
        self.query_one("#subhead", Static).update(head)
        facts = facts_text(row, verdict, local_time(row.order_utc_s, self.board.zone).strftime("%Y-%m-%d %H:%M:%S"))
        for name in ("#facts-text", "#about-text"):
            self.query_one(name, Static).update(facts)
        self._draw_pages()
        if self._study is None:
            self._draw_nothing(row)
            return
        page = self.query_one(ContentSwitcher).current
        draw = {
            "stars": self._draw_stars,
            "photometry": self._draw_photometry,
            "gradient": self._draw_gradient,
            "picture": self._draw_picture,
        }.get(str(page))
        if draw is not None:
            draw(self._study)

    def _draw_pages(self) -> None:
        current = self.query_one(ContentSwitcher).current
        text = Text()
        for number, (name, title) in enumerate(PAGES.items(), 1):
            words = f"{number} {title}" if name == current or self.size.width >= 62 else str(number)
            text.append(f" {words} ", "reverse bold" if name == current else "")
        self.query_one("#pages", Static).update(text)

    def _draw_nothing(self, row: SubRow) -> None:
        failure = row.failure.sentence if row.failure else "The reference of this series is not measured yet"
        text = Text(f"{inert(self._problem or failure)}.")
        for name in ("#registration", "#local", "#gradient-text"):
            self.query_one(name, Static).update(text)
        self.query_one("#flux", Graph).figure = None
        self.query_one(StarField).stars = None
        for picture in self.query(Picture):
            picture.pixels, picture.caption = None, ""

    def _draw_stars(self, study: Study) -> None:
        self.query_one("#registration", Static).update(registration_text(study))
        field = self.query_one(StarField)
        field.size_px = study.size_px
        field.stars = stars_of(study, self._shown_channel(study))
        field.redraw()

    def _draw_photometry(self, study: Study) -> None:
        self.query_one("#flux", Graph).figure = flux_figure(
            study, self._shown_channel(study), as_ratios=self._as_ratios
        )
        columns = 8 if self.size.width >= 62 else 6
        self.query_one("#local", Static).update(local_text(local_transmission(study, columns, 4)))

    def _draw_gradient(self, study: Study) -> None:
        room = self.query_one("#before", Picture).room_px
        columns = min(room[0], 96, max(8, round(room[1] * study.size_px[0] / study.size_px[1])))
        rows = max(2, round(columns * study.size_px[1] / study.size_px[0]))
        channel = self._shown_channel(study)
        maps = gradient_maps(study, self._smoothness, (columns, rows), channel)
        text = self.query_one("#gradient-text", Static)
        if maps is None:
            text.update(Text("Too few sky nodes are common to this sub and the reference."))
            return
        most = max(float(np.nanquantile(np.abs(maps.before), 0.98)), 1e-9)
        kept = "" if self._smoothness == study.smoothness else "  enter keeps it for the series and the exports"
        text.update(
            Text(
                f"{colour_words(study, channel)}smoothness {self._smoothness:+.1f}  (- + change){kept}\n"
                f"rms against the reference {maps.before_rms_adu:.2f} ADU before, {maps.after_rms_adu:.2f} after; "
                f"colours ±{most:.1f}"
            )
        )
        for name, values in (("before", maps.before), ("surface", maps.surface), ("after", maps.after)):
            picture = self.query_one(f"#{name}", Picture)
            picture.pixels = diverging(values, most)
            picture.caption = {"before": "before", "surface": "fitted surface", "after": "after"}[name]

    def _draw_picture(self, study: Study) -> None:
        picture = self.query_one("#look", Picture)
        own, reference = self._pictures.sub, self._pictures.reference
        if own is None or reference is None:
            missing = "sub" if own is None else "reference"
            picture.pixels, picture.caption = None, f"No preview of the {missing} is kept (any more)."
            return
        view = sight(study.size_px, picture.room_px, self._zoom, self._centre)
        base = lay_reference(study, reference, view).scaled
        if self._stretch is None:
            whole = sight(study.size_px, (160, 120))
            self._stretch = shared_stretch(lay_reference(study, reference, whole).scaled)
        pixels = base
        if self._show != "reference":
            laid = lay_sub(study, own, self._smoothness, view)
            pixels = laid.corrected if self._show == "corrected" else laid.uncorrected(sky_of(base))
        picture.pixels = self._stretch.brighter(self._brighter).apply(pixels)
        picture.caption = f"{SHOWN[self._show]}  zoom {self._zoom}  u correction  b reference  - + zoom  < > stretch"

    # --- keys ------------------------------------------------------------------------------------

    def action_step(self, by: int) -> None:
        self._sub_id = self._step(by) or self._sub_id
        self._load()

    def action_open(self, page: str) -> None:
        self.query_one(ContentSwitcher).current = page
        self.call_after_refresh(self._draw)

    def action_page(self, by: int) -> None:
        names = list(PAGES)
        current = self.query_one(ContentSwitcher).current
        self.action_open(names[(names.index(str(current)) + by) % len(names)])

    def action_show(self, what: str) -> None:
        self.query_one(ContentSwitcher).current = "picture"
        self._show = "corrected" if self._show == what else what
        self.call_after_refresh(self._draw)

    def action_knob(self, by: int) -> None:
        page = self.query_one(ContentSwitcher).current
        if page == "gradient":
            self.action_smoother(0.5 * by)
        elif page == "picture":
            self._zoom = min(max(self._zoom + by, 1), 16)
            self._draw()

    def action_smoother(self, by: float) -> None:
        self._smoothness = min(max(self._smoothness + by, -4.0), 4.0)
        self._draw()

    def action_stretch(self, factor: float) -> None:
        self._brighter *= factor
        self._draw()

    def action_pan(self, x: int, y: int) -> None:
        step = 0.4 / self._zoom
        self._centre = (min(max(self._centre[0] + x * step, 0), 1), min(max(self._centre[1] + y * step, 0), 1))
        self._draw()

    def _shown_channel(self, study: Study) -> int:
        return self._channel % len(study.relation.scale)

    def action_channel(self) -> None:
        self._channel += 1
        self._draw()

    def action_ratios(self) -> None:
        self._as_ratios = not self._as_ratios
        self._draw()

    def action_apply(self) -> None:
        study = self._study
        if study is not None and self._smoothness != study.smoothness:
            said = f"Asked for smoothness {self._smoothness:+.1f} in this series and its exports."
            self.board.ask("smoothness", said, series_id=study.row.series_id, value=self._smoothness)


class StarField(Drawing):
    """Where the stars moved from the reference to the sub: a dot each, and its way drawn larger or smaller."""

    stars: Stars | None = None
    size_px = (1, 1)

    def lines(self, width: int, height: int) -> list[list[Run]]:
        if self.stars is None or height < 3 or width < 8:
            return []
        canvas = Canvas(width, height - 1, self.marker)
        scale = min(width / self.size_px[0], 2.0 * (height - 1) / self.size_px[1])
        longest = float(np.quantile(np.hypot(self.stars.shift_x_px, self.stars.shift_y_px), 0.95))
        factor = _round_factor(min(0.1 * max(self.size_px) / max(longest, 1e-6), MOST_FACTOR))
        x, y = self.stars.x_px * scale, canvas.height - self.stars.y_px * scale / 2.0
        to_x, to_y = x + self.stars.shift_x_px * factor * scale, y - self.stars.shift_y_px * factor * scale / 2.0
        brightest = np.argsort(-np.nan_to_num(self.stars.reference_adu))[: max(width * height // 24, 20)]
        for i in brightest:
            canvas.polyline(np.array([x[i], to_x[i]]), np.array([y[i], to_y[i]]), Ink.LINE)
        used = brightest[self.stars.used[brightest]]
        dropped = np.setdiff1d(brightest, used)
        canvas.fat_dots(x[dropped], y[dropped], Ink.BAD)
        canvas.fat_dots(x[used], y[used], Ink.OK)
        said = f"brightest stars of the reference, and their way to the sub, {factor:g} x"
        return [*canvas.rows(), [(said[:width].ljust(width), Ink.LABEL)]]


def _round_factor(value: float) -> float:
    """The power of ten, or twice or five times it, at or below a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step * power for step in (1, 2, 5) if step * power <= value * 1.001))


def facts_text(row: SubRow, verdict: Verdict, when: str) -> Text:
    """Names and figures of one sub, one a line; what is missing is left out."""
    header, relation = row.header, row.relation
    channels = (
        ", ".join(f"{m:.4f}±{e:.4f}" for m, e in zip(relation.scale, relation.scale_err, strict=True))
        if relation
        else ""
    )
    entries = (
        ("middle", when + (f" ({inert(row.order_flag, 40)})" if row.order_flag else "")),
        ("object", inert(header.object_name, 40)),
        ("filter", inert(header.filter_name, 20)),
        ("stream", inert(row.stream, 30)),
        ("transmission", _with_error(verdict.transmission, verdict.transmission_err)),
        ("extinction removed", _clear(verdict)),
        ("weight", f"{_number(verdict.weight, 3)}, rank {verdict.rank}"),
        ("of the best sub", f"{_number(verdict.weight_of_best, 3)} per exposure"),
        ("scale", channels),
        ("FWHM, ellipticity", f"{_number(row.fwhm_px, 2)} px, {_number(row.ellipticity, 2)}"),
        ("stars", f"{row.stars_matched} of {row.stars_expected} matched, {row.stars_detected} seen"),
        ("sky, noise", f"{_list(row.sky_adu, 1)}, {_list(row.noise_adu, 2)} ADU"),
        ("gradient", f"{relation.gradient_rms_adu:.2f} ADU rms" if relation else ""),
        ("pattern", inert(relation.pattern, 20) if relation else ""),
        ("airmass", _optional(header.airmass, "{:.3f}")),
        ("camera", inert(header.camera, 40)),
        ("gain", _optional(header.gain, "{:g}")),
        ("sensor", _optional(header.ccd_temp_c, "{:.1f} °C")),
        ("side of pier", inert(header.pier_side, 20)),
        ("software", inert(header.software, 40)),
        ("size", f"{header.width_px} x {header.height_px} {inert(header.bayer_pattern, 8)}"),
        ("measured in", f"{row.measure_s:.2f} s"),
        ("decided", f"{row.decision} by you" if row.decision else ""),
        ("folder", inert(row.folder, 120) + (" (gone)" if row.gone else "")),
    )  # fmt: skip
    text = Text()
    for name, value in entries:
        if value.strip():
            text.append(f"{name:<18} ", "dim")
            text.append(f"{value}\n")
    return text


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if np.isfinite(value) else "not known"


def _clear(verdict: Verdict) -> str:
    clear, extinction = _number(verdict.transmission_clear, 3), verdict.extinction_mag
    return f"{clear} ({extinction:+.3f} mag)" if np.isfinite(extinction) else f"{clear} (airmass not known)"


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if np.isfinite(value) else "not known"


def _list(values: tuple[float, ...], decimals: int) -> str:
    return " ".join(f"{value:.{decimals}f}" for value in values)


def _optional(value: float | None, form: str) -> str:
    return form.format(value) if value is not None else ""


def registration_text(study: Study) -> Text:
    """Shift, rotation and residual against the reference, and how sure the match is."""
    stars = stars_of(study)
    turned = study.facts.transform.rotation_deg - study.reference_facts.transform.rotation_deg
    turned = (turned + 180.0) % 360.0 - 180.0
    shift_x, shift_y = centre_shift(study)
    facts = study.facts
    return Text(
        f"shift {shift_x:+.2f} {shift_y:+.2f} px at the centre, rotation {turned:+.3f}°, "
        f"residual {facts.residual_px:.3f} px\n"
        f"{facts.stars_matched} of {facts.stars_expected} stars matched, {int(stars.used.sum())} good for photometry, "
        f"chance of a false match 10^{facts.false_match_log10:.0f}"
    )


def centre_shift(study: Study) -> tuple[float, float]:
    """Where the middle of the reference lies in the sub, minus where it lies in the reference, pixels."""
    x, y = np.array([0.5 * study.size_px[0]]), np.array([0.5 * study.size_px[1]])
    there, here = study.facts.transform.apply(x, y), study.reference_facts.transform.apply(x, y)
    return float(there[0][0] - here[0][0]), float(there[1][0] - here[1][0])


def colour_words(study: Study, channel: int) -> str:
    """Which colour of a colour sub is shown, "" for mono."""
    names = study.catalogue.channels
    return f"{names[channel]} (c next)  " if len(names) > 1 else ""


def flux_figure(study: Study, channel: int = 0, *, as_ratios: bool) -> Figure:
    """The photometry graph: flux against flux with the fit, or the ratios against flux; dropped stars as crosses."""
    stars = stars_of(study, channel)
    m, err = study.relation.scale[channel], study.relation.scale_err[channel]
    seen = stars.seen & _near(stars)
    x = np.log10(stars.reference_adu[seen])
    sub = stars.sub_adu[seen]
    dropped = ~stars.used[seen]
    counts = f"{int((~dropped).sum())} stars, m {m:.4f} ± {err:.4f}, {int(dropped.sum())} dropped"
    title = f"{colour_words(study, channel)}{counts}"

    if as_ratios:
        ratio = sub * m / stars.reference_adu[seen]
        inside = np.abs(ratio - 1.0) < 0.6
        return Figure(
            f"Ratio against log flux  {title}", x[inside], ratio[inside], bad=dropped[inside],
            joined=False,
            levels=(Level(1.0, Ink.CUT),), note="v flux against flux",
        )  # fmt: skip
    line = np.array([float(x.min()), float(x.max())]) if x.size else np.array([])
    return Figure(
        f"Log flux  {title}", x, np.log10(sub), bad=dropped, joined=False,
        curves=(Curve(line, line - np.log10(m), Ink.CUT),), note="v ratios",
    )  # fmt: skip


def _near(stars: Stars) -> NDArray[np.bool_]:
    """Leave out wild stars, far fainter or brighter than all that are used: they would set the axes."""
    used = stars.reference_adu[stars.used & stars.seen]
    if not used.size:
        return stars.seen
    near = (stars.reference_adu > 0.5 * used.min()) & (stars.reference_adu < 2.0 * used.max())
    return np.asarray(near)


def local_text(cells: Floats) -> Text:
    """Local transmission as a small map of numbers, coloured by what is missing or added."""
    text = Text("Light in each part of the frame, relative to the whole sub\n", "dim")
    most = max(0.02, float(np.nanmax(np.abs(cells - 1.0)))) if np.isfinite(cells).any() else 1.0
    colours = diverging(cells - 1.0, most)
    for row, shades in zip(cells, colours, strict=True):
        for value, shade in zip(row, shades, strict=True):
            back = "on rgb({},{},{})".format(*shade)
            ink = "#000000" if int(shade.sum()) > 360 else "#ffffff"
            text.append(
                f" {value:5.3f}" if np.isfinite(value) else "    . ", f"{ink} {back}" if np.isfinite(value) else "dim"
            )
        text.append("\n")
    return text
