"""The configuration: one pydantic model is the truth; Snakemake and every command validate against it.

`Config.sections` decides which part of it a stage may read. The workflow gives exactly that part to Snakemake as the rule's
parameters, so a changed setting reruns the stages that read it and no others. The sections themselves are in
`decodiff.settings`.
"""

from __future__ import annotations

import itertools
import reprlib
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from decodiff.data.registry import REGISTRY, DataSet
from decodiff.errors import InputError
from decodiff.files import write_text
from decodiff.settings import (
    Augmentation,
    ComponentAutoencoder,
    Correction,
    Data,
    Diffusion,
    Evaluation,
    Floor,
    Image,
    Inference,
    Label,
    Masking,
    Method,
    Name,
    Positive,
    PretrainedAutoencoder,
    ReferenceModel,
    Scoring,
    Section,
    TrainedAutoencoder,
    TrainedModel,
    Training,
    problems,
)
from decodiff.timesteps import strided_timesteps
from decodiff.variants import VARIED_SECTIONS, sweep_variants

# of a configuration, in all
MAX_VALUES = 10_000
# holds `config`, `workflow` and `profiles`: this checkout, or where pip put those of the one that it installed the package from
CHECKOUT = Path(__file__).parents[1]
SOURCE = CHECKOUT if (CHECKOUT / "workflow/Snakefile").is_file() else Path(sysconfig.get_path("data"), "share", "decodiff")
# of the folder that a command is started in before those that came with the package
RECIPES = Path("config", "recipes")
# of what one setting asks for by itself: more than machines have
MOST_BYTES = 2**38
# makes a file a program for Snakemake, of YTE's expressions
TEMPLATE_KEY = "__use_yte__"
# YAML's own for ``<<``
MERGE_TAG = "tag:yaml.org,2002:merge"
# in the name of a scope
EACH_CATEGORY = "{category}"
# the folder of the method without a network, its scope in metrics, and its line in the tables of settings
FLOOR = "floor"
# in a folder of results of another method: which, what it cost, and why it has no maps if it has none
METHOD_FILE = "method.json"
# in the registry, what is made of another's training images; the table that compares settings on such data sets alone
MADE, MADE_TABLE = "made", "T13"
# folders beside those of the scopes
RESERVED = ("autoencoder", "latents", "tables", "figures", "sweeps", "methods", FLOOR)


# What each stage may read, by dotted keys. `data` stands for the settings of the one data set the job works on.
STAGE_SECTIONS: dict[str, tuple[str, ...]] = {
    "fetch": ("data.source", "data.kind", "data.split", "data.hold_out"),
    "autoencoder": ("autoencoder", "image", "seed"),
    "encode": ("data.augmentation", "image"),
    "encode-test": ("image",),
    "train": ("diffusion", "masking", "training", "model", "image"),
    "import-reference": ("diffusion", "training", "model"),
    "correct": ("diffusion", "correction", "inference"),
    "score": ("scoring", "inference"),
    "over-compute": ("diffusion", "correction", "inference", "scoring", "evaluation", "image"),
    "floor": ("floor", "image.crop"),
    "method": ("image.crop",),
    "evaluate": ("evaluation", "image"),
    "curves": ("evaluation.protocol", "image.crop"),
    "table": (),
    "figures": ("diffusion", "masking", "correction", "evaluation", "image", "seed"),
    "report": (),
}


class Config(Section):
    """Everything a run depends on.

    Attributes:
        run: name of the run: ``models/<run>``, ``results/<run>``, ``logs/<run>``.
        recipe: name of a file in ``config/recipes``, whose settings hold where this configuration names none.
        seed: of the autoencoder and of figure F2.
        seeds: one network is trained for each; tables show their mean, figures and the report the first.
        augmentation: of data sets that state none, ``<name of the registry>: {…}``, and ``default`` for the others.
        processes: how many processes train one network together, by ``torchrun``; the result is the same.
        data: the data sets by name: one of the registry, or one of your own with a ``kind``; ``{}`` for the defaults.
        scopes: which data sets or categories share one network, ``<scope>: [<member>, …]``; see below.
        sweeps: tables that compare settings, ``<table>: {<label>: {<dotted key>: <value>, …}, …}``; see below.
        sweep_scopes: the scopes they are made for; null: all.
        methods: others to stand beside the run's own, ``<name>: {command: …}``; see below.
    """

    run: Name
    recipe: Name | None = None
    seed: int = 0
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    augmentation: dict[Name, Augmentation] = {}
    processes: Positive = 1
    data: dict[Name, Data]
    scopes: dict[Name, tuple[str, ...]]
    image: Image
    autoencoder: Annotated[PretrainedAutoencoder | TrainedAutoencoder | ComponentAutoencoder, Field(discriminator="source")]
    diffusion: Diffusion = Diffusion()
    masking: Masking
    training: Training
    model: Annotated[TrainedModel | ReferenceModel, Field(discriminator="source")] = TrainedModel()
    inference: Inference = Inference()
    correction: Correction = Correction()
    scoring: Scoring = Scoring()
    floor: Floor = Floor()
    evaluation: Evaluation = Evaluation()
    sweeps: dict[Literal["T2", "T3", "T4", "T5", "T6", "T13"], dict[Label, dict[str, Any]]] = {}
    sweep_scopes: tuple[str, ...] | None = None
    methods: dict[Name, Method] = {}

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        problems = [*self._data_problems(), *self._size_problems(), *self._memory_problems(), *self._step_problems()]
        problems += self._method_problems()
        if self.model.source == "reference" and len(self.seeds) > 1:
            problems.append("seeds: weights that are not trained here have no seeds; give one")
        if len(set(self.seeds)) != len(self.seeds):
            problems.append("seeds: each must be named once")
        # a variant has its run's problems too; each is said once
        if problems := problems or list(dict.fromkeys(self._sweep_problems())):
            raise ValueError("; ".join(problems))
        return self

    def entry(self, dataset: str) -> DataSet:
        """What the registry knows of one of the configuration's data sets."""
        return REGISTRY[self.data[dataset].kind or dataset]

    def _categories(self, dataset: str) -> tuple[str, ...]:
        images = of if (of := self.data[dataset].of) in self.data else dataset
        return self.entry(images).categories if (self.data[images].kind or images) in REGISTRY else ()

    @property
    def arrays(self) -> list[str]:
        """The data sets whose images the run needs. One in no scope, of which another is made, need only be fetched."""
        trained = {dataset for scope in self.scopes for dataset in self.members(scope)}
        sources = {data.of for data in self.data.values()}
        return [name for name in self.data if name in trained or name not in sources]

    def swept(self, table: str) -> list[tuple[str, str]]:
        """Scopes and data sets that a table of ``sweeps`` has lines for; that of made defects has none for other data sets."""
        return [
            (scope, dataset)
            for scope in self.scopes
            if scope in (self.sweep_scopes or self.scopes)
            for dataset in self.members(scope)
            if table != MADE_TABLE or self.data[dataset].of
        ]

    def _made_problems(self, name: str) -> list[str]:
        data = self.data[name]
        if (data.kind or name) != MADE:
            return [f"data.{name}.of: only with kind {MADE}; leave it out"] if data.of else []
        others = [other for other, entry in self.data.items() if (entry.kind or other) != MADE]
        if data.of not in others:
            found = "not set" if data.of is None else f"{data.of!r} is not under data, or is made itself"
            return [f"data.{name}.of: {found}; name the data set whose training images get defects ({', '.join(others)})"]
        if data.source or data.hold_out or data.split != "all":
            return [f"data.{name}: source, split and hold_out are those of {data.of}; leave them out"]
        return []

    def _data_problems(self) -> list[str]:
        problems = []
        for name, data in self.data.items():
            if (data.kind or name) not in REGISTRY:
                problems.append(
                    f"data.{name}: no such data set; choose one of {', '.join(REGISTRY)}, or say by data.{name}.kind which "
                    "it is like (folder or csv for images of your own)"
                )
            elif data.kind and name in REGISTRY and data.kind != name:
                problems.append(f"data.{name}.kind: {name} is a data set by itself; call your own otherwise")
            elif made_problems := self._made_problems(name):
                problems += made_problems
            elif data.split == "released" and not self.entry(name).held_out:
                problems.append(f"data.{name}.split: {self.entry(name).title} has no split 'released'")
            elif data.split == "released" and data.hold_out:
                problems.append(f"data.{name}.hold_out: the split 'released' holds out its own images; leave one of them out")
        if not self.scopes or not self.data:
            problems.append("data and scopes: at least one of each is needed")
        for scope, members in self.scopes.items():
            for member in members:
                dataset, _, category = member.partition("/")
                if dataset not in self.data:
                    problems.append(f"scopes.{scope}: {dataset!r} is not under data")
                elif category and category not in (self._categories(dataset) or (category,)):
                    problems.append(f"scopes.{scope}: {dataset} has no category {category!r}")
                elif category and dataset in members:
                    problems.append(f"scopes.{scope}: {member!r} is already part of {dataset!r}")
            if len(set(members)) != len(members) or not members:
                problems.append(f"scopes.{scope}: must name each member once, and at least one")
            if scope in RESERVED:
                problems.append(f"scopes.{scope}: this name is taken by a folder of results; choose another")
        return problems

    def _method_problems(self) -> list[str]:
        problems = []
        for name, method in self.methods.items():
            if name == FLOOR:
                problems.append(f"methods.{name}: a line that every table has; call yours otherwise")
            if method.requirements and not Path(method.requirements).is_file():
                problems.append(f"methods.{name}.requirements: no file {method.requirements}; give a lock that pip installs")
        return problems

    def _memory_problems(self) -> list[str]:
        """Settings that ask by themselves for more memory than there is, each with what it would need."""
        # float32, three channels
        picture, patch = 12 * self.image.crop**2, 12 * self.floor.patch_side**2
        needs = [
            ("training.batch_size", self.training.batch_size, picture, "for a batch of pictures"),
            ("correction.batch_size", self.correction.batch_size, picture, "for a batch of pictures"),
            ("scoring.batch_size", self.scoring.batch_size, picture, "for a batch of pictures"),
            ("floor.patches", self.floor.patches, patch, "for the patches"),
            # nine metrics
            ("evaluation.resamples", self.evaluation.resamples, 36, "for a category's resamples"),
        ]
        if isinstance(self.autoencoder, TrainedAutoencoder):
            crops, channels = self.autoencoder.batch_size, self.autoencoder.channels
            needs += [
                ("autoencoder.batch_size", crops, 12 * self.autoencoder.crop**2, "for a batch of crops"),
                # 3×3 weights
                ("autoencoder.channels", channels, 36 * channels, "for the weights of one convolution"),
            ]
        return [
            f"{key}: {count:,} need {count * each / 2**30:,.0f} GiB {what} alone; give fewer"
            for key, count, each, what in needs
            if count * each > MOST_BYTES
        ]

    def _step_problems(self) -> list[str]:
        problems = []
        try:
            self.diffusion.timesteps  # noqa: B018  (computed to be checked)
        except ValueError as error:
            problems.append(f"diffusion.trained_timesteps: {error}")
        length = self.correction.num_train_timesteps or self.diffusion.num_train_timesteps
        try:
            steps = strided_timesteps(length, self.correction.steps)
        except ValueError as error:
            return [*problems, f"correction.steps: {error}"]
        start = self.correction.noise_timestep
        if self.diffusion.objective == "noise" and length % self.correction.steps:
            problems.append(f"correction.steps: {self.correction.steps} does not divide {length}, as DDIM needs it")
        if self.diffusion.objective == "noise" and start not in steps:
            problems.append(
                f"correction.noise_timestep: {start} with diffusion.objective noise; choose one of {', '.join(map(str, steps))}"
            )
        elif self.diffusion.objective == "deviation" and start is not None:
            problems.append("correction.noise_timestep: nothing is noised with diffusion.objective deviation; leave it out")
        return problems

    def _sweep_problems(self) -> list[str]:
        if self.sweeps and self.model.source != "train":
            return ["sweeps: need networks that are trained here; leave them out with model.source reference"]
        problems = [
            f"sweep_scopes: {scope!r} is not under scopes" for scope in self.sweep_scopes or () if scope not in self.scopes
        ]
        problems += [
            f"sweeps.{table}: {FLOOR!r} is a line that every table has; call yours otherwise"
            for table, lines in self.sweeps.items()
            if FLOOR in lines
        ]
        swept = [self.scopes.get(scope, ()) for scope in self.sweep_scopes or self.scopes]
        sets = {member.partition("/")[0] for member in itertools.chain(*swept)}
        if MADE_TABLE in self.sweeps and not any(self.data[name].of for name in sets & self.data.keys()):
            problems.append(
                f"sweeps.{MADE_TABLE}: compares settings on made defects; have a data set of kind {MADE} in a scope"
            )
        for variant in itertools.chain(*sweep_variants(self.sweeps).values()):
            try:
                self.varied(variant.changes)
            except InputError as error:
                problems.append(str(error))
        return problems

    def varied(self, changes: Mapping[str, Any]) -> Config:
        """The same run with some settings changed; a variant keeps no networks of a training's way.

        Args:
            changes: values by dotted key, of the sections in `decodiff.variants.VARIED_SECTIONS`.

        Raises:
            InputError: a key that cannot be varied, or a configuration that is not valid.
        """
        settings = self.model_dump(mode="json", exclude={"sweeps", "sweep_scopes", "methods"})
        settings["training"]["kept_epochs"] = []
        for key, value in changes.items():
            section, _, name = key.partition(".")
            if key == "training.kept_epochs":
                raise InputError(f"sweeps: {key}: only the run's own networks are kept; set it under training")
            if section not in VARIED_SECTIONS or not name:
                raise InputError(f"sweeps: {key!r}; expected a key of {', '.join(VARIED_SECTIONS)}, as scoring.fusion")
            settings[section][name] = value
        return validate(settings, "sweeps") if changes else self

    def _size_problems(self) -> list[str]:
        problems = []
        if self.image.crop > self.image.resize:
            problems.append(f"image.crop: {self.image.crop} is larger than image.resize {self.image.resize}")
        margin = (self.image.resize - self.image.crop) // 2
        for name, data in self.data.items():
            if (needed := data.augmentation.margin(self.image.crop)) > margin:
                problems.append(
                    f"data.{name}.augmentation: max_shift and rotation_degrees need a margin of {needed} pixels around the "
                    f"crop, there are {margin}"
                )
        if self.evaluation.top_pixels > self.image.crop**2:
            problems.append(f"evaluation.top_pixels: {self.evaluation.top_pixels} are more than a map has")
        if self.floor.patch_side > self.image.crop:
            problems.append(f"floor.patch_side: {self.floor.patch_side} is larger than image.crop {self.image.crop}")
        # one on the hub with other cells is refused when it is loaded
        cell = self.autoencoder.downsampling
        if self.image.crop % cell:
            problems.append(f"image.crop: {self.image.crop} is not a multiple of the autoencoder's {cell} pixels per cell")
            return problems
        side = self.image.crop // cell
        if side % 4:
            problems.append(f"image.crop: {self.image.crop} gives {side} latent cells a side, the UNet needs a multiple of 4")
        problems += [
            f"masking.patch_sides: {patch} does not divide the latent's {side} cells a side"
            for patch in self.masking.patch_sides
            if side % patch
        ]
        if isinstance(self.autoencoder, TrainedAutoencoder) and self.autoencoder.crop > self.image.resize:
            problems.append(f"autoencoder.crop: {self.autoencoder.crop} is larger than image.resize {self.image.resize}")
        return problems

    def sections(self, stage: str, dataset: str | None = None) -> dict[str, Any]:
        """The settings a stage may read, by the last part of their key; ``data`` is that of ``dataset`` alone.

        Raises:
            InputError: the data set is not one of the configuration's.
        """
        if dataset is not None and dataset not in self.data:
            raise InputError(f"data.{dataset}: not in the configuration; choose one of {', '.join(self.data)}")
        chosen = {}
        for key in STAGE_SECTIONS[stage]:
            value: Any = self
            for part in key.split("."):
                value = value.data[dataset] if part == "data" else getattr(value, part)
            chosen[part] = value
        return chosen

    def members(self, scope: str) -> dict[str, tuple[str, ...]]:
        """Data sets of a scope, each with its categories; empty stands for all that its folder turns out to hold.

        Raises:
            InputError: the scope is not one of the configuration's.
        """
        if scope not in self.scopes:
            raise InputError(f"scopes.{scope}: not in the configuration; choose one of {', '.join(self.scopes)}")
        chosen: dict[str, list[str]] = {}
        for member in self.scopes[scope]:
            dataset, _, category = member.partition("/")
            chosen.setdefault(dataset, [])
            chosen[dataset] += [category] if category else self._categories(dataset)
        return {dataset: tuple(categories) for dataset, categories in chosen.items()}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Give every data set that states no augmentation the one meant for it, and what is made of another the pose of that."""
    known, data = settings.get("augmentation", {}), settings.get("data")
    if not isinstance(known, Mapping) or not isinstance(data, Mapping):
        return settings
    completed = {}
    for name, entry in data.items():
        if isinstance(entry, Mapping):
            # made of the images of another: what is meant for those; what is no text is refused with the rest
            of = str(entry.get("of"))
            images, told = (of, data[of]) if isinstance(data.get(of), Mapping) else (name, entry)
            meant = told.get("augmentation", known.get(str(told.get("kind") or images), known.get("default")))
            defaults = {"augmentation": meant, "pose": told.get("pose")}
            entry = {**{key: value for key, value in defaults.items() if value is not None}, **entry}
        completed[name] = entry
    return {**settings, "data": completed}


def _single_categories(scope: str, members: Iterable[str], data: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Names and members of the scopes that one whose name holds ``{category}`` stands for.

    Raises:
        InputError: a member is no data set of the configuration's, or its categories are not known beforehand.
    """
    for member in members:
        if member not in data:
            raise InputError(f"scopes.{scope}: {member!r} is not under data; a scope for each category names whole data sets")
        images = (data[member].get("of") if isinstance(data[member], Mapping) else None) or member
        told = data.get(images) if isinstance(images, str) else None
        kind = (told.get("kind") if isinstance(told, Mapping) else None) or images
        categories = REGISTRY[kind].categories if isinstance(kind, str) and kind in REGISTRY else ()
        if not categories:
            name = scope.replace(EACH_CATEGORY, "bolt")
            raise InputError(
                f"scopes.{scope}: the categories of {member!r} are not known beforehand; write a scope for each of them, as "
                f"{name!r}: [{member}/bolt]"
            )
        for category in categories:
            yield scope.replace(EACH_CATEGORY, category), [f"{member}/{category}"]


def _with_single_categories(settings: dict[str, Any]) -> dict[str, Any]:
    """Turn each scope whose name holds ``{category}`` into one per category of its data sets.

    Raises:
        InputError: as `_single_categories` does, or two scopes would have one name.
    """
    scopes, data = settings.get("scopes"), settings.get("data")
    if not isinstance(scopes, Mapping) or not isinstance(data, Mapping):
        return settings
    completed: dict[str, Any] = {}
    for scope, members in scopes.items():
        # what is no list of names is refused with the rest
        is_list = isinstance(members, list | tuple) and all(isinstance(member, str) for member in members)
        stands_for_many = isinstance(scope, str) and EACH_CATEGORY in scope and is_list and members
        for name, held in _single_categories(scope, members, data) if stands_for_many else [(scope, members)]:
            if name in completed:
                raise InputError(
                    f"scopes.{scope}: there is a scope {name!r} already; tell them apart, as by '<data set>_{EACH_CATEGORY}'"
                )
            completed[name] = held
    return {**settings, "scopes": completed}


def _check_size(settings: Any, name: str) -> None:
    """Refuse what aliases blow up: a few lines of them can stand for billions of values, or for themselves.

    Raises:
        InputError: more than `MAX_VALUES`.
    """
    values, seen = [settings], 0
    while values:
        value, seen = values.pop(), seen + 1
        if seen > MAX_VALUES:
            raise InputError(f"{name}: more than {MAX_VALUES:,} values, aliases counted as what they stand for; write it out")
        if isinstance(value, Mapping):
            values += value.values()
        elif isinstance(value, list | tuple | set):
            values += value


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that stands twice in a mapping, where the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE_TAG]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path, what: str) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot read the {what} ({error.strerror}); check the path") from error
    except Exception as error:  # whatever a damaged or malicious file makes of the reader
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of settings, found {type(content).__name__}")
    return content


def validate(settings: Mapping[str, Any], name: str = "configuration") -> Config:
    """Complete settings by their recipe and check them.

    Raises:
        InputError: one line that names each wrong key and what was expected.
    """
    _check_size(settings, name)
    recipe = settings.get("recipe")
    if isinstance(recipe, str):
        known = {path.stem: path for folder in (SOURCE / RECIPES, RECIPES) for path in sorted(folder.glob("*.yaml"))}
        if recipe not in known:
            choice = ", ".join(sorted(known)) or "none"
            raise InputError(f"{name}: recipe: no recipe {reprlib.repr(recipe)} in config/recipes; choose one of {choice}")
        settings = _merged(_read_yaml(known[recipe], "recipe"), settings)
    settings = _with_single_categories(_with_defaults(dict(settings)))
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        # labels and values may hold line breaks
        raise InputError(" ".join(f"{name}: {'; '.join(problems(error))}".split())) from error


def load(path: Path) -> Config:
    """Read and check a configuration file; see `validate`."""
    return validate(_read_yaml(Path(path), "configuration"), str(path))


def check_file(path: Path) -> None:
    """Refuse a file that Snakemake's reader does not take as `load` does: it runs templates, takes the last of equal keys, and
    goes through all that aliases stand for.

    Where Snakemake has read the file before, this does not keep a template from running; it keeps it from going unnoticed.

    Raises:
        InputError: the file is a template, has equal keys or too many values, or is no configuration at all.
    """
    content = _read_yaml(path, "configuration")
    _check_size(content, str(path))
    if TEMPLATE_KEY in content:
        raise InputError(
            f"{path}: {TEMPLATE_KEY}: `snakemake` runs the expressions of such a file as it reads it, before this check, "
            "`decodiff plan` does not; a configuration holds values alone"
        )


def write_config(config: Config, path: Path) -> None:
    """Write a configuration down, complete, so that `load` gives it back."""
    write_text(Path(path), yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
