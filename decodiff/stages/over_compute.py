"""`over-compute`: what a training gives after a part of its epochs, from the networks that it kept on its way."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from decodiff.data.maps import own_maps
from decodiff.files import read_csv, read_json, write_text
from decodiff.metrics import ALL_METRICS
from decodiff.settings import Correction, Diffusion, Evaluation, Image, Inference, Scoring
from decodiff.stages.correct import correct
from decodiff.stages.evaluate import IDENTITY, METRIC_COLUMNS, evaluate_maps
from decodiff.stages.score import score
from decodiff.training.kept import PROGRESS

log = logging.getLogger(__name__)

COLUMNS = (*IDENTITY, *PROGRESS, *ALL_METRICS, "note")


def over_compute(
    name: str,
    scope: str,
    kept: list[Path],
    latents: Path,
    prepared: Path,
    autoencoder: Path,
    diffusion: Diffusion,
    correction: Correction,
    inference: Inference,
    scoring: Scoring,
    evaluation: Evaluation,
    image: Image,
    output: Path,
) -> None:
    """Correct, score and evaluate a data set with each network that a training kept.

    Writes a row for each, separated by tabs: after which epoch, how many steps and how many seconds of training, and the means
    over the categories of all metrics on test images, in [0, 1]. An empty cell has a note. Corrections and maps go to a
    temporary folder. It is no CSV, as the seconds of another training with the same seed are others.

    Args:
        name: of the data set.
        scope: of the networks.
        kept: their folders, in the order of the rows.
        latents, prepared, autoencoder: folders.
        diffusion, correction, inference, scoring, evaluation, image: settings.
        output: the file to write.

    Raises:
        InputError: a network is not one that a training kept, or files are damaged or do not belong together.
    """
    rows = []
    for unet in kept:
        record = read_json(unet / "training.json", ("seed", *PROGRESS))
        identity = {"dataset": name, "scope": scope, "seed": str(record["seed"])}
        identity["crop"] = f"central {image.crop} of {image.resize}"
        with TemporaryDirectory() as place:
            results = Path(place)
            correct(name, unet, latents, prepared, diffusion, correction, inference, results)
            score(results, latents, autoencoder, scoring, inference, results)
            maps = own_maps(results, prepared, image.crop, evaluation.protocol)
            evaluate_maps(maps, evaluation, identity, results)
            # the last row is the mean of the others
            mean = read_csv(results / "metrics.csv", METRIC_COLUMNS)[-1]
        rows.append({**mean, **{column: record[column] for column in PROGRESS}})
        log.info("%s: that was after epoch %s", name, record["epoch"])
    lines = [COLUMNS, *([str(row[column]) for column in COLUMNS] for row in rows)]
    write_text(output, "".join("\t".join(line) + "\n" for line in lines))
