"""Commands that train networks and correct with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from decodiff.cli.options import (
    STAGES,
    Autoencoder,
    ConfigFile,
    Dataset,
    Latents,
    LogFile,
    Output,
    Prepared,
    Scope,
    Seed,
    Threads,
    Variant,
    app,
    begin,
    varied,
)
from decodiff.config import load
from decodiff.errors import InputError


@app.command(rich_help_panel=STAGES)
def autoencoder(
    config: ConfigFile,
    output: Output,
    prepared: Annotated[
        list[Path] | None, typer.Option(help="Folder of a prepared data set to train on; may be repeated.")
    ] = None,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Get the pretrained autoencoder, or train a small one."""
    begin(log, threads)
    from decodiff.stages.autoencoder import autoencoder as stage

    sections = load(config).sections("autoencoder")
    stage(sections["autoencoder"], sections["image"], sections["seed"], prepared or [], output)


@app.command(rich_help_panel=STAGES)
def encode(
    config: ConfigFile,
    dataset: Dataset,
    prepared: Prepared,
    autoencoder: Autoencoder,
    output: Output,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Encode a data set's training images once, in every view its augmentation can show."""
    begin(log, threads)
    from decodiff.stages.encode import encode as stage

    stage(prepared, autoencoder, output=output, **load(config).sections("encode", dataset))


@app.command("encode-test", rich_help_panel=STAGES)
def encode_test(
    config: ConfigFile,
    prepared: Prepared,
    autoencoder: Autoencoder,
    output: Output,
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Encode a data set's test and validation images."""
    begin(log, threads)
    from decodiff.stages.encode import encode_test as stage

    stage(prepared, autoencoder, output=output, **load(config).sections("encode-test"))


@app.command(rich_help_panel=STAGES)
def train(
    config: ConfigFile,
    scope: Scope,
    seed: Seed,
    latents: Annotated[list[Path], typer.Option(help="Latents of each data set of the scope, in its order.")],
    prepared: Annotated[list[Path], typer.Option(help="Prepared folder of each data set of the scope, in its order.")],
    output: Output,
    autoencoder: Annotated[
        Path | None, typer.Option(help="Folder of the autoencoder, where images are encoded while training or looked at.")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's files.")] = None,
    variant: Variant = "{}",
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Train the network of one scope; under torchrun, by several processes together."""
    begin(log, threads)
    from decodiff.stages.train import train as stage
    from decodiff.training.data import TrainingSet

    settings = varied(config, variant)
    sections = settings.sections("train")
    members = settings.members(scope)
    if not len(members) == len(latents) == len(prepared):
        raise InputError(f"scope {scope} has {len(members)} data sets; give --latents and --prepared once for each")
    sets = [
        TrainingSet(name, latents[i], prepared[i], settings.data[name].augmentation, categories)
        for i, (name, categories) in enumerate(members.items())
    ]
    if sections["model"].source != "train":
        raise InputError("model.source: the network is not trained but imported; see decodiff import-reference")
    stage(sets, seed=seed, output=output, autoencoder=autoencoder, tensorboard=tensorboard, **sections)


@app.command("import-reference", rich_help_panel=STAGES)
def import_reference(
    weights: Annotated[Path, typer.Argument(help="The authors' checkpoint.")],
    scope: Scope,
    output: Output,
    config: ConfigFile = Path("config/config.yaml"),
    log: LogFile = None,
) -> None:
    """Bring the authors' released weights to a folder in diffusers' format, executing nothing of the file."""
    begin(log)
    from decodiff.stages.import_reference import import_reference as stage

    settings = load(config)
    stage(weights, settings.members(scope), settings.diffusion, settings.training, output)


@app.command(rich_help_panel=STAGES)
def correct(
    config: ConfigFile,
    dataset: Dataset,
    unet: Annotated[Path, typer.Option(help="Folder of the trained network.")],
    latents: Latents,
    prepared: Prepared,
    output: Output,
    variant: Variant = "{}",
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Correct the latents of a data set's test images."""
    begin(log, threads)
    from decodiff.stages.correct import correct as stage

    stage(dataset, unet, latents, prepared, output=output, **varied(config, variant).sections("correct"))


@app.command(rich_help_panel=STAGES)
def score(
    config: ConfigFile,
    corrected: Annotated[Path, typer.Option(help="Folder of the corrected latents.")],
    latents: Latents,
    autoencoder: Autoencoder,
    output: Output,
    variant: Variant = "{}",
    log: LogFile = None,
    threads: Threads = None,
) -> None:
    """Make anomaly maps and image scores."""
    begin(log, threads)
    from decodiff.stages.score import score as stage

    stage(corrected, latents, autoencoder, output=output, **varied(config, variant).sections("score"))


@app.command(rich_help_panel=STAGES)
def floor(
    config: ConfigFile,
    prepared: Prepared,
    output: Output,
    log: LogFile = None,
) -> None:
    """Make anomaly maps by a method without a network, which others are compared with."""
    begin(log)
    from decodiff.stages.floor import floor as stage

    stage(prepared, output=output, **load(config).sections("floor"))


@app.command(rich_help_panel=STAGES)
def method(
    name: Annotated[str, typer.Option(help="Name of the method, as under `methods` in the configuration.")],
    config: ConfigFile,
    dataset: Dataset,
    scope: Scope,
    seed: Seed,
    prepared: Prepared,
    output: Output,
    log: LogFile = None,
    threads: Annotated[int, typer.Option(help="Processor threads that it is to compute with.")] = 1,
) -> None:
    """Have another method, a command, train and make anomaly maps."""
    begin(log)
    from decodiff.stages.method import method as stage

    settings = load(config)
    if name not in settings.methods:
        raise InputError(f"methods.{name}: not in {config}; choose one of {', '.join(settings.methods) or 'none'}")
    categories = settings.members(scope).get(dataset)
    if categories is None:
        raise InputError(f"scopes.{scope}: does not hold {dataset}; choose one of {', '.join(settings.members(scope))}")
    stage(
        name,
        prepared,
        categories,
        settings.methods[name],
        seed=seed,
        threads=threads,
        output=output,
        **settings.sections("method"),
    )
