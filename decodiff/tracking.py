"""DVC beside Snakemake: the stages that version a run, written from its configuration, and pulling what others computed.

A run has three stages: its data sets, its networks, its results. Each calls Snakemake, which decides job by job what there is
to do; so every stage watches all code and the whole configuration.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from decodiff.config import RECIPES, Config, load
from decodiff.errors import InputError
from decodiff.files import write_text
from decodiff.records import FOLDER
from decodiff.stages.curves import FALSE_POSITIVE_RATE, OVERLAP_FILE, PRECISION_FILE, RECALL
from decodiff.stages.evaluate import MEAN

log = logging.getLogger(__name__)

DVC_FILE = "dvc.yaml"
CODE = ("decodiff", "workflow")


def _data(config: Config) -> list[str]:
    """What is known of the data sets, and folders of their arrays but for those that the code itself generates."""
    known = [dataset for dataset in config.arrays if config.entry(dataset).origin != "generated"]
    prepared = [f"data/{dataset}/prepared-{config.image.resize}" for dataset in known]
    return [*(f"data/{dataset}/{name}" for dataset in config.data for name in ("manifest.csv", "origin.json")), *prepared]


def _files() -> list[Path]:
    """DVC's files of all runs of this checkout."""
    return [file for file in (Path(DVC_FILE), *sorted(FOLDER.glob(f"*/{DVC_FILE}"))) if file.is_file()]


def _outputs(path: Path) -> Iterator[str]:
    """What the stages of a file of DVC make, as paths from the root."""
    for stage in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {}).values():
        for output in stage.get("outs", []):
            yield output if isinstance(output, str) else next(iter(output))


def _plots(config: Config) -> dict[str, dict[str, Any]]:
    """Loss and curves of the run's first network on its first data set: title, and column over column of a file."""
    scope = next(iter(config.scopes))
    network = f"{scope}/seed-{config.seeds[0]}"
    results = f"results/{config.run}/{network}/{next(iter(config.members(scope)))}"
    curves = {
        "precision and recall": ("Pixel precision over recall, mean of the categories", RECALL, f"{results}/{PRECISION_FILE}"),
        "region overlap": (
            "Overlap with the defects over the rate of false positives, mean of the categories",
            FALSE_POSITIVE_RATE,
            f"{results}/{OVERLAP_FILE}",
        ),
    }
    plots = {name: {"title": title, "x": axis, "y": {file: MEAN}} for name, (title, axis, file) in curves.items()}
    if config.model.source == "train":
        loss = {"title": f"Training of {scope}", "x": "epoch", "y": {f"models/{config.run}/{network}/log.csv": "loss"}}
        plots = {"loss": loss, **plots}
    return plots


def stages(path: Path, tracked: set[str], above: str) -> dict[str, Any]:
    """DVC's stages of a run, its metrics and plots.

    Args:
        path: its configuration, from the root.
        tracked: files of data sets that stages of other runs make.
        above: the way from the file that will hold them to the root, ``.`` for none.
    """
    config = load(path)
    data, models, results = _data(config), f"models/{config.run}", f"results/{config.run}"
    settings = [path, *([RECIPES / f"{config.recipe}.yaml"] if config.recipe else [])]

    def stage(targets: tuple[str, ...], dependencies: list[str], outputs: list[str]) -> dict[str, Any]:
        commands = [" ".join(filter(None, ("snakemake", target, f"--configfile {path}"))) for target in targets]
        return {
            "wdir": above,
            "cmd": [*commands, f"decodiff records {config.run}"],
            "deps": [*CODE, *dependencies],
            "params": [{str(file): None} for file in settings],
            # what is there stays: Snakemake knows which of it still holds
            "outs": [{output: {"persist": True}} for output in outputs],
        }

    found = {}
    if own := [made for made in data if made not in tracked]:
        found["data"] = stage(("prepared",), [], own)
    # one after another, so that what is not stored is made again as it had been and no reason to make more of it
    found["models"] = stage(("prepared", "encoded", "trained"), data, [models])
    found["results"] = stage(("prepared", "encoded", ""), [models], [results])
    plots = _plots(config)
    for plot in plots.values():
        plot["y"] = {os.path.normpath(f"{above}/{file}"): column for file, column in plot["y"].items()}
    metrics = [os.path.normpath(f"{above}/{results}/metrics.json")]
    return {"stages": found, "metrics": metrics, "plots": [{name: plot} for name, plot in plots.items()]}


def track(configuration: Path, output: Path | None = None) -> Path:
    """Write the file that makes DVC version a run; gives its path.

    Args:
        configuration: of the run, in this checkout.
        output: the file; by default ``records/<run>/dvc.yaml``.

    Raises:
        InputError: the configuration lies elsewhere or is not valid.
    """
    root = Path.cwd()
    if not configuration.resolve().is_relative_to(root):
        raise InputError(f"{configuration}: not below {root}; DVC versions what lies in the repository, so copy it there")
    path = configuration.resolve().relative_to(root)
    output = output or FOLDER / load(path).run / DVC_FILE
    tracked = {made for other in _files() if other.resolve() != output.resolve() for made in _outputs(other)}
    content = stages(path, tracked, os.path.relpath(root, output.resolve().parent))
    head = f"# How DVC versions this run; written by `decodiff track {path}`. docs/reproduce.md says how it is used.\n"
    write_text(output, head + yaml.safe_dump(content, sort_keys=False, width=128))
    return output


def pull() -> None:
    """Bring all that was stored of the runs in this repository; what is here and differs stays.

    Raises:
        InputError: DVC is not installed, this is no repository of DVC, its remote is missing or damaged, or files here would be
            overwritten.
    """
    if find_spec("dvc") is None:
        raise InputError("decodiff pull: needs DVC; install it with `pip install -e '.[dvc]'`")
    from dvc.exceptions import CheckoutError, ConfirmRemoveError, DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    # its warnings list every file; what matters of them is in the error
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo() as repo:
            remote = repo.config["core"].get("remote", "")
            address = repo.config["remote"].get(remote, {}).get("url", "no address")
            # a run whose stages never ran has nothing to bring
            done = repo.pull([str(file) for file in _files() if file.with_suffix(".lock").is_file()])
    except (NotDvcRepoError, SCMError) as error:
        raise InputError(
            f"{Path.cwd()}: no clone that DVC knows ({error}); clone the repository by git, or compute all by `make demo`"
        ) from error
    except ConfirmRemoveError as error:
        raise InputError(f"{' '.join(str(error).split())}; move what is yours away, or keep it with `dvc commit`") from error
    except CheckoutError as error:
        raise InputError(
            f"{', '.join(map(str, error.target_infos))}: not whole in the remote {remote!r} ({address}), nothing here was "
            "changed; restore the remote, choose another (`dvc remote default`), or compute it by `snakemake`"
        ) from error
    except DvcException as error:
        raise InputError(f"DVC: {' '.join(str(error).split())}") from error
    brought = len(done.get("added", ())) + len(done.get("modified", ()))
    log.info("brought from the remote %r: %s", remote, f"{brought} files" if brought else "nothing, all is here")
