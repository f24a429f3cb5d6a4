"""The reference chooser: all subs of a series, normalised but not corrected, to blink and compare."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Static

from nsgd.dashboard.board import BoardScreen, Keys
from nsgd.dashboard.inert import inert
from nsgd.dashboard.night import View
from nsgd.dashboard.picture import Picture
from nsgd.dashboard.sharp import best_picture
from nsgd.dashboard.state_line import StateLine
from nsgd.dashboard.study import Study, lay_sub, read_study
from nsgd.dashboard.table import Column, SubTable, big, number
from nsgd.errors import NsgdError
from nsgd.frames.preview import Preview, load_preview
from nsgd.overlay import Sight, Stretch, shared_stretch, sight, sky_of
from nsgd.records import Floats
from nsgd.session.store import Reader

MOST_KEPT = 12
"""Previews held in memory; the others are read again when they are looked at."""


def candidate_columns(width: int) -> list[Column]:
    """What decides about a reference: weight, sky, the gradient along both diagonals, stars."""

    columns = [
        Column("rank", 4, lambda sub: str(sub.verdict.rank or "")),
        Column("W", 5, lambda sub: number(sub.verdict.weight_of_best, 3)),
        Column("sky", 6, lambda sub: big(sub.figure("sky_adu"))),
        Column("↘ ADU", 7, lambda sub: number(sub.figure("falling_adu"), 1)),
        Column("↗ ADU", 7, lambda sub: number(sub.figure("rising_adu"), 1)),
        Column("FWHM", 5, lambda sub: number(sub.figure("fwhm_px"), 2)),
        Column("ell", 4, lambda sub: number(sub.figure("ellipticity"), 2)),
        Column("file", 0, lambda sub: inert(sub.name), left=True),
    ]
    return columns if width >= 52 else [c for c in columns if c.name not in ("rank", "ell", "FWHM")]


class ChooserScreen(BoardScreen):
    """Subs by weight; blink the one under the cursor against a bookmark, and make one the reference."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("question_mark,f1", "app.help", "Help", key_display="?"),
        Binding("r", "reference", "Reference"),
        Binding("space,b", "blink", "Blink"),
        Binding("m", "bookmark", "Bookmark", show=False),
        Binding("u", "correct", "Correction on/off", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Larger", show=False),
        Binding("minus", "zoom(-1)", "Smaller", show=False),
        Binding("less_than_sign,comma", "stretch(0.7)", "Darker", show=False),
        Binding("greater_than_sign,full_stop", "stretch(1.4)", "Brighter", show=False),
        Binding("left,h", "pan(-1, 0)", "Pan", show=False),
        Binding("right,l", "pan(1, 0)", "Pan", show=False),
        Binding("H", "pan(0, -1)", "Pan", show=False),
        Binding("L", "pan(0, 1)", "Pan", show=False),
        Binding("A", "automatic", "Let nsgd choose", show=False),
    ]

    def __init__(self, view: View) -> None:
        super().__init__(id="chooser")
        self._view = view
        self._bookmark = view.series.reference_id
        self._blinking = False
        self._corrected = False
        self._zoom = 1
        self._centre = (0.5, 0.5)
        self._brighter = 1.0
        self._stretch: Stretch | None = None
        self._sky: Floats | None = None
        self._kept: OrderedDict[int, tuple[Study, Preview] | None] = OrderedDict()
        self._reader: Reader | None = None

    def compose(self) -> ComposeResult:
        yield StateLine()
        with Container(id="choosing"):
            yield SubTable("candidates", candidate_columns)
            yield best_picture("show", self.board.graphics)
        yield Static(id="say", markup=False)
        yield Keys()

    def on_mount(self) -> None:
        self.begin()
        self.set_looks()
        table = self.query_one(SubTable)
        table.focus()
        try:
            self._reader = self.board.open_reader()
        except NsgdError as problem:
            self.board.say(problem.sentence, "error")
        table.show(self._view, self._by_weight())
        table.cursor = 0
        table.select(self._bookmark)
        self.call_after_refresh(self._draw)

    def on_unmount(self) -> None:
        """Let go of the pictures."""
        self._kept.clear()
        if self._reader is not None:
            self._reader.close()

    def _by_weight(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        verdicts = self._view.verdicts
        measured = np.flatnonzero(~verdicts.failed)
        order = np.argsort(-np.nan_to_num(verdicts.weight_of_best[measured]), kind="stable")
        return measured[order]

    def night_changed(self, touched: set[int]) -> None:
        series_id = self._view.series.series_id
        view = self.board.night.view(series_id, "")
        if series_id not in touched or view is None or self.board.frozen:
            return
        moved = view.series.reference_id != self._view.series.reference_id
        self._view = view
        if moved:
            self._kept.clear()
            self._stretch = None
        self.query_one(SubTable).show(view, self._by_weight())
        self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_sub_table_moved(self) -> None:
        self._blinking = False
        self._draw()

    # --- drawing ---------------------------------------------------------------------------------

    def _material(self, sub_id: int) -> tuple[Study, Preview] | None:
        """Facts and preview of a sub, from memory or from the store."""
        if sub_id not in self._kept:
            self._kept[sub_id] = self._read(sub_id)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(sub_id)
        return self._kept[sub_id]

    def _read(self, sub_id: int) -> tuple[Study, Preview] | None:
        if self._reader is None or not sub_id:
            return None
        try:
            row = self._reader.sub(sub_id)
            study = read_study(self._reader, row, self._view.series)
        except NsgdError as problem:
            self.board.say(problem.sentence, "error")
            return None
        preview = load_preview(self._reader.preview_path_of(row.content_id))
        return (study, preview) if study is not None and preview is not None else None

    def _draw(self) -> None:
        if not self.drawable:
            return
        picture = self.query_one(Picture)
        sub_id = self._bookmark if self._blinking else self.query_one(SubTable).sub_id
        material = self._material(sub_id)
        self._draw_words(sub_id)
        if material is None:
            picture.pixels, picture.caption = None, "No preview of this sub is kept (any more)."
            return
        size_px = material[0].size_px
        self._set_stretch(size_px)
        if self._stretch is None or self._sky is None:
            return
        pixels = self._pixels(material, sight(size_px, picture.room_px, self._zoom, self._centre))
        picture.pixels = self._stretch.brighter(self._brighter).apply(pixels)
        looks = "corrected" if self._corrected else "scale and offset only"
        picture.caption = f"{looks}  zoom {self._zoom}  u correction  - + zoom  < > stretch"

    def _pixels(self, material: tuple[Study, Preview], view: Sight) -> Floats:
        study, preview = material
        laid = lay_sub(study, preview, study.smoothness, view)
        if self._corrected:
            return laid.corrected
        return laid.scaled - (self._offset(study, preview) if self._sky is not None else 0.0)

    def _offset(self, study: Study, preview: Preview) -> Floats:
        """What lies between the sky of the whole sub and the reference's."""
        whole = lay_sub(study, preview, study.smoothness, sight(study.size_px, (48, 32)))
        sky = self._sky if self._sky is not None else np.zeros(1)
        return sky_of(whole.scaled) - sky

    def _set_stretch(self, size_px: tuple[int, int]) -> None:
        """One stretch for all, from the reference (or the first sub that has a picture)."""
        if self._stretch is not None:
            return
        material = self._material(self._view.series.reference_id) or self._material(self.query_one(SubTable).sub_id)
        if material is not None:
            whole = lay_sub(material[0], material[1], material[0].smoothness, sight(size_px, (160, 120)))
            self._sky = sky_of(whole.scaled)
            self._stretch = shared_stretch(whole.scaled)

    def _draw_words(self, sub_id: int) -> None:
        text = Text()
        text.append("BOOKMARK  " if self._blinking else "", "bold")
        text.append(self._file_name(sub_id), "bold")
        if not self._blinking and self._bookmark != sub_id:
            text.append(f"   space blinks to {self._file_name(self._bookmark)}, m bookmarks this one")
        if sub_id == self._view.series.reference_id:
            text.append("   the reference" + ("" if self._view.series.reference_chosen else ", chosen by nsgd"))
        self.query_one("#say", Static).update(text)

    # --- keys ------------------------------------------------------------------------------------

    def action_blink(self) -> None:
        self._blinking = not self._blinking
        self._draw()

    def action_bookmark(self) -> None:
        self._bookmark = self.query_one(SubTable).sub_id
        self._draw()

    def action_correct(self) -> None:
        self._corrected = not self._corrected
        self._draw()

    def action_zoom(self, by: int) -> None:
        self._zoom = min(max(self._zoom + by, 1), 16)
        self._draw()

    def action_stretch(self, factor: float) -> None:
        self._brighter *= factor
        self._draw()

    def action_pan(self, x: int, y: int) -> None:
        step = 0.4 / self._zoom
        self._centre = (min(max(self._centre[0] + x * step, 0), 1), min(max(self._centre[1] + y * step, 0), 1))
        self._draw()

    def action_reference(self) -> None:
        sub = self.query_one(SubTable).sub
        if sub is not None:
            said = f"Asked to make {self._file_name(sub.sub_id)} the reference."
            self.board.ask("reference", said, sub_id=sub.sub_id, series_id=sub.series_id)

    def action_automatic(self) -> None:
        series_id = self._view.series.series_id
        self.board.ask("reference", "Asked nsgd to choose the reference.", sub_id="auto", series_id=series_id)

    def _file_name(self, sub_id: int) -> str:
        return inert(self.board.night.path_of(sub_id).rsplit("/", 1)[-1], 40) or "nothing"
