"""`publish`: a finished run's model of one scope as a folder that anyone can use, with a card that says what it is."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData

from decodiff.bootstrap import CONFIDENCE
from decodiff.config import Config, load
from decodiff.errors import InputError
from decodiff.files import read_csv, read_json, replacing, sha256, write_text
from decodiff.metrics import ALL_METRICS
from decodiff.models.autoencoder import load_autoencoder
from decodiff.models.names import WEIGHTS_FILE
from decodiff.models.unet import load_unet
from decodiff.pipeline import DeCoDiffPipeline, ImageProcessor, check_place
from decodiff.scheduler import DeviationScheduler
from decodiff.stages.evaluate import INTERVAL_COLUMNS, MEAN, THRESHOLD_COLUMNS

log = logging.getLogger(__name__)

CARD_FILE = "README.md"
# of the hub's list, those that data sets here have
LICENCES = {"MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0"}


def published_names(categories: list[str]) -> list[str]:
    """Names of categories without their data set, ``<dataset>/<category>``, where that leaves them different."""
    short = [name.split("/", 1)[1] for name in categories]
    counts = Counter(short)
    return [name if counts[name] == 1 else whole for name, whole in zip(short, categories)]


def _results(run: Path, scope: str, seed: int, dataset: str) -> Path:
    return run / scope / f"seed-{seed}" / dataset


def _thresholds(run: Path, scope: str, seed: int, categories: list[str]) -> dict[str, float]:
    """Thresholds by ``<dataset>/<category>``, of those that have one."""
    found = {}
    for dataset in dict.fromkeys(name.split("/", 1)[0] for name in categories):
        for row in read_csv(_results(run, scope, seed, dataset) / "thresholds.csv", THRESHOLD_COLUMNS):
            if row["threshold"]:
                found[f"{dataset}/{row['category']}"] = float(row["threshold"])
    return {name: found[name] for name in categories if name in found}


def _metric_table(rows: list[dict[str, str]]) -> str:
    """Values in percent with their intervals, a line per category."""
    by_category: dict[str, dict[str, str]] = {}
    for row in rows:
        cell = f"{100 * float(row['value']):.1f}" if row["value"] else "–"
        if row["value"] and row["low"]:
            cell += f" [{100 * float(row['low']):.1f}, {100 * float(row['high']):.1f}]"
        by_category.setdefault(row["category"], {})[row["metric"]] = cell
    names = [name for name in ALL_METRICS if any(cells.get(name, "–") != "–" for cells in by_category.values())]
    lines = [f"| category | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    lines += [f"| {category} | {' | '.join(cells[name] for name in names)} |" for category, cells in by_category.items()]
    return "\n".join(lines)


def _evaluations(title: str, dataset: str, rows: list[dict[str, str]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="image-segmentation" if row["metric"].startswith("pixel") else "image-classification",
            task_name="anomaly detection",
            dataset_type=dataset,
            dataset_name=title,
            metric_type=row["metric"],
            metric_name=row["metric"],
            metric_value=float(row["value"]),
        )
        for row in rows
        if row["category"] == MEAN and row["value"]
    ]


def _card(config: Config, run: Path, scope: str, seed: int, network: Path, pipeline: DeCoDiffPipeline) -> ModelCard:
    """The model's card: what the hub indexes, and what a person reads."""
    training = read_json(network / "training.json", ("categories", "environment"))
    data, sections, evaluations, licences = [], [], [], []
    for dataset in config.members(scope):
        entry = config.entry(dataset)
        licences.append(entry.licence)
        data.append(f"- {entry.title}: {entry.licence}; {entry.citation}; {entry.homepage}")
        folder = _results(run, scope, seed, dataset)
        rows = read_csv(folder / "intervals.csv", INTERVAL_COLUMNS)
        identity = rows[0]
        sections.append(
            f"### {entry.title}\n\n{_metric_table(rows)}\n\nOn {identity['crop']} pixels, protocol {identity['protocol']}, "
            f"seed {seed}; intervals of {100 * CONFIDENCE:.0f} % by {identity['resamples']} resamples of the images."
        )
        evaluations += _evaluations(entry.title, dataset, rows)
    known = set(licences) <= set(LICENCES) and len(set(licences)) == 1
    name = f"DeCo-Diff, {config.run}, {scope}"
    metadata = ModelCardData(
        license=LICENCES[licences[0]] if known else "other",
        license_name=None if known else "that of the training images",
        library_name="diffusers",
        tags=["anomaly-detection", "diffusion", "decodiff"],
        model_name=name,
        eval_results=evaluations or None,
    )
    without = [category for category in pipeline.categories if pipeline.threshold(category) is None]
    thresholds = "\n".join(
        f"| {category} | {'–' if (value := pipeline.threshold(category)) is None else f'{value:g}'} |"
        for category in pipeline.categories
    )
    made_with = "; ".join(f"{key} {value}" for key, value in training["environment"].items())
    weights = sha256(network / WEIGHTS_FILE)
    text = f"""---
{metadata.to_yaml()}
---

# {name}

A latent diffusion model that corrects only what deviates from normality, for anomaly detection (Beizaee et al., CVPR 2025).
It knows {len(pipeline.categories)} categor{"y" if len(pipeline.categories) == 1 else "ies"}: {", ".join(pipeline.categories)}.

```sh
decodiff predict <this folder or its id> images/ --output predictions
```

```python
from decodiff import DeCoDiffPipeline
output = DeCoDiffPipeline.from_pretrained("<this folder or its id>")(image, category="{pipeline.categories[0]}")
```

## Intended use

To find images, and places in them, that deviate from the normal images of these categories, taken as those were. A score
says how much was corrected and is no probability of a defect. Images of other objects, cameras or light get scores without
meaning.

## Training data

{chr(10).join(data)}

The licence of the images holds for what was learnt from them as well, where it says so.

## Metrics

{(chr(10) * 2).join(sections)}

## Thresholds

An image is called anomalous above the threshold, which was chosen on held-out normal images for a rate of false alarms of
{config.evaluation.false_alarm_rate:g}.{" Where no normal images were held out there is none." if without else ""}

| category | threshold |
| --- | ---: |
{thresholds}

## Provenance

Run `{config.run}`, scope `{scope}`, seed {seed}. SHA-256 of `unet/{WEIGHTS_FILE}`: `{weights}`.
Trained with {made_with}.
"""
    return ModelCard(text, ignore_metadata_errors=False)


def publish(run: Path, models: Path, output: Path, scope: str | None = None, seed: int | None = None) -> str:
    """Write the folder of a `DeCoDiffPipeline` and its card, whole or not at all.

    Args:
        run: results of a finished run, ``results/<run>``.
        models: its networks, ``models/<run>``.
        output: folder to write.
        scope: which of the run's models; may be left out where there is one.
        seed: of the model; by default the run's first.

    Returns:
        The scope.

    Raises:
        InputError: the run is not finished or has no such scope, or its network is not one of DeCo-Diff.
    """
    check_place(output)
    config = load(run / "config.yaml")
    if config.diffusion.objective != "deviation":
        raise InputError(f"{run / 'config.yaml'}: a run of standard diffusion; only DeCo-Diff's models can be published")
    if scope is None:
        if len(config.scopes) > 1:
            raise InputError(f"--scope: the run has several; name one of {', '.join(config.scopes)}")
        scope = next(iter(config.scopes))
    if scope not in config.scopes:
        raise InputError(f"--scope: {scope!r} is not one of the run's: {', '.join(config.scopes)}")
    seed = config.seeds[0] if seed is None else seed
    if seed not in config.seeds:
        raise InputError(f"--seed: {seed} is not one of the run's: {', '.join(map(str, config.seeds))}")
    network = models / scope / f"seed-{seed}"
    categories = read_json(network / "training.json", ("categories",))["categories"]
    names = dict(zip(categories, published_names(categories)))
    correction = config.correction.num_train_timesteps or config.diffusion.num_train_timesteps
    settings = {
        "categories": list(names.values()),
        "thresholds": {names[name]: value for name, value in _thresholds(run, scope, seed, categories).items()},
        "poses": {names[name]: pose for name in categories if (pose := config.data[name.split("/", 1)[0]].pose) != "as_is"},
        "top_pixels": config.evaluation.top_pixels,
        **{name: getattr(config, name).model_dump(mode="json") for name in ("correction", "scoring", "inference")},
    }
    vae = load_autoencoder(models / "autoencoder").module
    parts = (vae, load_unet(network), DeviationScheduler(correction), ImageProcessor(config.image))
    pipeline = DeCoDiffPipeline(*parts, settings)
    card = _card(config, run, scope, seed, network, pipeline)
    with replacing(output) as temporary:
        pipeline.save_pretrained(temporary)
        write_text(temporary / CARD_FILE, str(card))
    log.info("%s: a model of %d categories", output, len(pipeline.categories))
    return scope


def upload(folder: Path, name: str) -> str:
    """Upload a published folder to the hub, of `HF_ENDPOINT` where that is set, once the hub has found its card valid.

    Args:
        folder: that `publish` wrote.
        name: ``<owner>/<name>``; made when there is none.

    Returns:
        The model's address.

    Raises:
        InputError: the hub refuses the card, the name or the user, or cannot be reached.
    """
    try:
        ModelCard.load(folder / CARD_FILE).validate(repo_type="model")
        address = HfApi().create_repo(name, exist_ok=True)
        HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="Publish the model")
    except Exception as error:  # whatever the hub or the network makes of it
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: cannot be uploaded ({reason}); check the name, and log in with `hf auth login`") from error
    return str(address)
