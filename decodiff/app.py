"""A page on which a trained model says of a dropped image where it deviates, step by step, and shows what `predict` found."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nicegui import app, events, run, ui
from PIL import Image

from decodiff.data.images import as_rgb, decode
from decodiff.data.pose import posed
from decodiff.data.views import to_uint8
from decodiff.errors import InputError
from decodiff.files import read_csv
from decodiff.pipeline import DeCoDiffPipeline
from decodiff.stages.predict import answer
from decodiff.stages.predictions import COLUMNS, overlay

log = logging.getLogger(__name__)

MAX_UPLOAD = 50 * 2**20
# of a folder's images, so many on one page
PER_PAGE = 24
STEP_SIDE = 160


@dataclass(frozen=True)
class Answer:
    """What a model says of one image, ready to be shown.

    Attributes:
        image: as it was given, RGB, in the category's pose.
        category, reason: that it was taken for, and why.
        score: in [0, 1].
        anomaly_map: float32 ``[crop,crop]`` in [0, 1].
        correction: what the model would have expected.
        steps: estimates of that after each step of the correction.
    """

    image: Image.Image
    category: str
    reason: str
    score: float
    anomaly_map: np.ndarray
    correction: Image.Image
    steps: list[Image.Image]


def answered(pipeline: DeCoDiffPipeline, content: bytes, name: str, category: str | None) -> Answer:
    """Raises `InputError` when the file is no picture that may be looked at."""
    image = as_rgb(decode(content, Path(name)), Path(name))
    estimates: list[torch.Tensor] = []

    def keep(_pipeline: DeCoDiffPipeline, _step: int, _timestep: int, now: dict[str, torch.Tensor]) -> None:
        estimates.append(now["pred_original_sample"])

    chosen = answer(pipeline, [image], category, callback=keep)
    # the same number of steps under each category that was tried
    tried = (category,) if category else pipeline.categories
    steps, place = len(estimates) // len(tried), tried.index(chosen.categories[0])
    pictures = to_uint8(pipeline.decode(torch.cat(estimates[place * steps : (place + 1) * steps])))
    return Answer(
        posed(image, pipeline.pose(chosen.categories[0])),
        chosen.categories[0],
        chosen.reasons[0],
        float(chosen.output.scores[0]),
        chosen.output.anomaly_maps[0],
        Image.fromarray(chosen.output.corrections[0]),
        [Image.fromarray(picture) for picture in pictures],
    )


def _source(image: Image.Image) -> str:
    """An image as the page takes it."""
    held = io.BytesIO()
    image.save(held, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


class Page:
    """One visitor's page.

    Args:
        pipeline: the model.
        predictions: folder that `predict` wrote with CSV rows, shown below; None for none.
    """

    def __init__(self, pipeline: DeCoDiffPipeline, predictions: Path | None):
        self.pipeline = pipeline
        # from the first upload on
        self.answer: Answer
        ui.page_title("DeCo-Diff")
        with ui.column().classes("w-full max-w-5xl mx-auto px-2"):
            ui.label("Where does this image deviate from normality?").classes("text-2xl")
            with ui.row().classes("w-full items-center"):
                names = (
                    ["most plausible category", *pipeline.categories] if len(pipeline.categories) > 1 else pipeline.categories
                )
                self.category = ui.select(list(names), value=names[0], label="category").classes("w-64")
                self.upload = ui.upload(
                    label="drop an image here",
                    auto_upload=True,
                    max_files=None,
                    max_file_size=MAX_UPLOAD,
                    on_upload=self._uploaded,
                    on_rejected=lambda: self._refuse(f"larger than {MAX_UPLOAD // 2**20} MiB; resize it"),
                )
                self.upload.props("accept=image/*").classes("w-72")
            self.message = ui.label().classes("text-red-700")
            self.result = ui.column().classes("w-full")
            if predictions is not None:
                self._folder(predictions)

    def _refuse(self, message: str) -> None:
        self.message.text = f"error: {message}"

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        self.upload.reset()
        self.message.text = ""
        category = self.category.value if self.category.value in self.pipeline.categories else None
        content, name = await event.file.read(), Path(event.file.name).name
        try:
            given = await run.io_bound(answered, self.pipeline, content, name, category)
        except InputError as error:
            self._refuse(str(error))
            return
        # none when the server is ending
        if given is not None:
            self.answer = given
            self._show(name)

    def _show(self, name: str) -> None:
        answer, self_threshold = self.answer, self.pipeline.threshold(self.answer.category)
        start = self_threshold if self_threshold is not None else round(answer.score / 2, 3)
        self.result.clear()
        with self.result:
            self.verdict = ui.label().classes("text-xl")
            ui.label(f"{name}: {answer.category}" + (f" ({answer.reason})" if answer.reason else ""))
            with ui.row().classes("w-full items-center"):
                ui.label("threshold" if self_threshold is not None else "threshold (the model has none of its own)")
                slider = ui.slider(min=0, max=1, step=0.001, value=start, on_change=lambda event: self._judge(event.value))
                slider.classes("grow min-w-48").props("label")
            with ui.element("div").classes("grid grid-cols-1 sm:grid-cols-3 gap-2 w-full"):
                for title, picture in (("image", answer.image), ("correction", answer.correction)):
                    with ui.column().classes("gap-0"):
                        ui.label(title)
                        ui.image(_source(picture)).classes("w-full").props("fit=contain")
                with ui.column().classes("gap-0"):
                    ui.label("anomaly map; outlined: above the threshold")
                    self.map = ui.image().classes("w-full").props("fit=contain")
            ui.label("the correction, step by step")
            with ui.row().classes("w-full"):
                for step in answer.steps:
                    ui.image(_source(step)).style(f"width: {STEP_SIDE}px")
        self._judge(start)

    def _judge(self, threshold: float) -> None:
        answer = self.answer
        is_anomalous = answer.score > threshold
        self.verdict.text = f"{'anomalous' if is_anomalous else 'normal'}: score {answer.score:.3f}, threshold {threshold:.3f}"
        self.verdict.classes(replace=f"text-xl {'text-red-700' if is_anomalous else 'text-green-700'}")
        self.map.set_source(_source(overlay(answer.image, answer.anomaly_map, self.pipeline.settings.image.resize, threshold)))

    # ---- a folder

    def _folder(self, predictions: Path) -> None:
        rows = read_csv(predictions / "predictions.csv", COLUMNS)
        self.overlays = predictions / "overlays"
        self.rows = sorted((row for row in rows if row["score"]), key=lambda row: -float(row["score"]))
        failed = len(rows) - len(self.rows)
        ui.separator()
        ui.label(f"{len(self.rows)} images of {predictions}, the highest score first").classes("text-2xl")
        if failed:
            ui.label(f"{failed} could not be looked at; see the column error of predictions.csv")
        pages = max(1, -(-len(self.rows) // PER_PAGE))
        self.gallery = ui.element("div").classes("grid grid-cols-2 sm:grid-cols-4 gap-2 w-full")
        if pages > 1:
            ui.pagination(1, pages, direction_links=True, on_change=lambda event: self._fill(event.value))
        self._fill(1)

    def _fill(self, page: int) -> None:
        self.gallery.clear()
        with self.gallery:
            for row in self.rows[(page - 1) * PER_PAGE : page * PER_PAGE]:
                with ui.card().tight():
                    ui.image(self.overlays / f"{row['image']}.png").classes("h-40").props("fit=contain")
                    ui.label(f"{float(row['score']):.3f} {row['verdict']}").classes("px-2")
                    ui.label(row["image"]).classes("px-2 text-xs break-all")


def serve(model: str, predictions: Path | None, host: str, port: int) -> None:
    """Serve the page until interrupted.

    Args:
        model: folder of a `DeCoDiffPipeline`, or its id on the hub.
        predictions: folder that `predict` wrote, to be shown too.
        host, port: to listen at.

    Raises:
        InputError: a folder that is no model, or one without predictions.
    """
    pipeline = DeCoDiffPipeline.from_pretrained(model)
    if predictions is not None:
        read_csv(predictions / "predictions.csv", COLUMNS)
    ui.page("/")(lambda: Page(pipeline, predictions))
    app.on_startup(lambda: log.info("http://%s:%d shows %s; end it with Ctrl-C", host, port, model))
    ui.run(host=host, port=port, reload=False, show=False, title="DeCo-Diff", show_welcome_message=False)
