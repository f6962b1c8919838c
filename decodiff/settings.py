"""The sections of a configuration, one pydantic model each: keys, defaults, ranges, and what must fit within a section."""

from __future__ import annotations

import difflib
import math
import os
import reprlib
import shlex
import string
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from decodiff.files import read_json
from decodiff.timesteps import strided_timesteps

if TYPE_CHECKING:
    from decodiff.scoring import ScoringSettings

HUB_DOWNSAMPLING = 8

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# of a line in a table
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$")]
Positive = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(gt=0, le=16_384)]
ScheduleLength = Annotated[int, Field(gt=0, le=100_000)]
Ratio = Annotated[float, Field(ge=0, le=1)]
# of Pillow's, by their names there
ResizeFilter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
# of what is seen in a picture, see `decodiff.data.pose`
Pose = Literal["as_is", "long_axis"]


# what `predict` and `export` write
RowFormat = Literal["csv", "jsonl"]
MapFormat = Literal["npy", "png", "tiff"]
GraphFormat = Literal["onnx", "torchscript", "openvino"]
# that `predict` computes with
Runtime = Literal["torch", "torchscript"]


def _keys(section: type[BaseModel]) -> set[str]:
    """Names of all settings in the sections that are of this kind."""
    return set(section.model_fields).union(*map(_keys, section.__subclasses__()))


def problems(error: ValidationError) -> list[str]:
    """What is wrong with settings, a line for each wrong key: its name, and what was expected."""
    found = []
    for problem in error.errors(include_url=False):
        # which of a section's forms was taken is no part of its key
        key = ".".join(str(part) for part in problem["loc"] if part not in ("train", "pretrained", "reference", "components"))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _keys(Section), 1)
            message = f"unknown key; {f'did you mean {near[0]}? ' if near else ''}config/README.md has those there are"
        elif problem["type"] != "value_error" and not isinstance(problem["input"], dict):
            message += f", got {reprlib.repr(problem['input'])}"
        found.append(f"{key}: {message}" if key else message)
    return found


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans(cls, values: Any) -> Any:
        """YAML reads yes, no, on and off as booleans, which would pass for 1 and 0; no setting is one."""
        known = {name: values[name] for name in cls.model_fields if name in values} if isinstance(values, Mapping) else {}
        for name, value in known.items():
            if any(isinstance(item, bool) for item in (value if isinstance(value, list | tuple) else [value])):
                raise ValueError(f"{name}: expected a number or a word, found true or false; put a word in quotes")
        return values


class Augmentation(Section):
    """Random changes of a training image.

    With shifts and half turns alone each image is encoded once in every view, ``(2·max_shift + 1)²`` of them and twice as many
    with half turns. With any other change, and with ``masking.corruption: content``, images are encoded while the network
    trains.

    Attributes:
        max_shift: a shift moves the crop by up to this many pixels each way; needs that much margin around the crop.
        shift_probability: probability that an image is shifted; the offset is then uniform, none included.
        half_turn_probability: probability that an image is turned by 180°.
        mirror_probability: probability that left and right are exchanged; with half turns, up and down too.
        rotation_degrees: a rotation turns by up to this angle each way; needs margin around the crop.
        rotation_probability: probability that an image is rotated.
        brightness: a number drawn from ± this is added to values in [0, 1].
        contrast: before that they are multiplied by a factor drawn from 1 ± this.
        colour_probability: probability that brightness and contrast change.
    """

    max_shift: Annotated[int, Field(ge=0)] = 0
    shift_probability: Ratio = 0.5
    half_turn_probability: Ratio = 0.0
    mirror_probability: Ratio = 0.0
    rotation_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    rotation_probability: Ratio = 0.0
    brightness: Ratio = 0.0
    contrast: Ratio = 0.0
    colour_probability: Ratio = 0.0

    @property
    def is_finite(self) -> bool:
        """Whether only shifts and half turns occur."""
        rotates = self.rotation_degrees > 0 and self.rotation_probability > 0
        recolours = (self.brightness > 0 or self.contrast > 0) and self.colour_probability > 0
        return not (rotates or recolours or self.mirror_probability > 0)

    def margin(self, crop: int) -> int:
        """Pixels that are needed around the crop on each side."""
        if self.rotation_probability == 0:
            return self.max_shift
        angle = math.radians(self.rotation_degrees)
        return self.max_shift + math.ceil(crop / 2 * (math.cos(angle) + math.sin(angle) - 1))


class Data(Section):
    """One data set of the run.

    Attributes:
        source: folder or archive (tar, zip; of kind ``csv`` a CSV) that is here already, relative to where Snakemake is
            started; without it the data set is downloaded or generated. Needed for what is got by hand and for own images.
        kind: which data set of the registry a name of your own is like: ``folder`` and ``csv`` for your own images, ``made``
            for defects made in another's training images; null: the name itself.
        split: ``all`` trains on all training images; ``released``, of ``mvtec_ad``, leaves out the part that the authors held
            out.
        hold_out: part of each category's training images that is kept out of training, to choose the threshold on; not with
            the split ``released``.
        of: with ``kind: made``, the data set under ``data`` whose training images it is made of; that one need be in no scope.
            It has no ``source``, ``split`` and ``hold_out`` of its own, and the other's augmentation and pose if it
            states none.
        pose: ``long_axis`` turns every image, and its mask, so that the largest thing in it that differs from the background
            lies level in the middle, its heavier end to the right: for loose parts that lie in any direction.
        augmentation: of its training images, see below; null: what the top level's ``augmentation`` has for it.
    """

    source: str | None = None
    kind: Name | None = None
    split: Literal["all", "released"] = "all"
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    of: Name | None = None
    pose: Pose = "as_is"
    augmentation: Augmentation = Augmentation()


class Image(Section):
    """How images are cut and seen.

    Attributes:
        resize: images are resized to this many pixels square.
        crop: the networks see the central square of this side, and maps have it; at most ``resize``, a multiple of the
            autoencoder's pixels per cell and of 4 cells.
        filter: Pillow's filter for that; ``bicubic`` is what its ``resize`` takes by default, as the authors' code did.
        contrast: ``per_image``: the networks see every crop with its own mean and standard deviation taken out, so that a dark
            image and a bright one look alike to them.
    """

    resize: Side
    crop: Side
    filter: ResizeFilter = "bicubic"
    contrast: Literal["as_is", "per_image"] = "as_is"


class PretrainedAutoencoder(Section):
    """Any diffusers ``AutoencoderKL``.

    Attributes:
        path: its id on the hub (then 8 pixels per latent cell), or a local folder.
    """

    source: Literal["pretrained"]
    path: str

    @property
    def downsampling(self) -> int:
        """Pixels per latent cell: as a local folder says, else the 8 of the Stable Diffusion autoencoders."""
        config = Path(self.path) / "config.json"
        if not os.path.isfile(config):  # for a name that no file can have, too
            return HUB_DOWNSAMPLING
        blocks = read_json(config, ("down_block_types",))["down_block_types"]
        return 2 ** (len(blocks) - 1) if isinstance(blocks, list) else HUB_DOWNSAMPLING


class TrainedAutoencoder(Section):
    """A small autoencoder trained in the pipeline on normal and procedural images.

    Attributes:
        channels: width of all its layers.
        downsampling: image pixels per latent cell: 2, 4, 8 or 16.
        blocks: residual blocks per level.
        latent_channels: channels of the latent.
        posterior_std: standard deviation of the posterior, in units of the scaled latent; noise of that size is added to the
            latents while the autoencoder trains, so that neighbouring codes decode alike.
        steps: of its training.
        batch_size: crops per step.
        crop: side of a crop in pixels; at most ``image.resize``, a multiple of ``downsampling``.
        learning_rate: peak of the learning rate.
        normal_fraction: part of each batch taken from the normal training images; the rest is procedural.
        procedural_images: number of procedural images drawn once before training.
    """

    source: Literal["train"]
    channels: Positive = 24
    downsampling: Positive = 4
    blocks: Positive = 1
    latent_channels: Positive = 4
    posterior_std: Annotated[float, Field(ge=0)] = 0.05
    steps: Positive = 2000
    batch_size: Positive = 16
    crop: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 0.004
    normal_fraction: Ratio = 0.5
    procedural_images: Positive = 256

    @model_validator(mode="after")
    def _crop_fits(self) -> TrainedAutoencoder:
        if self.downsampling not in (2, 4, 8, 16):
            raise ValueError(f"downsampling {self.downsampling} is not one of 2, 4, 8, 16")
        if self.crop % self.downsampling:
            raise ValueError(f"crop {self.crop} is not a multiple of downsampling {self.downsampling}")
        return self


class ComponentAutoencoder(Section):
    """Whitened principal components of square cells, fitted in seconds.

    Attributes:
        downsampling: side of a cell in image pixels.
        latent_channels: components kept; at most 3 · ``downsampling``².
        whitening: power of a component's standard deviation that it is divided by: 1 makes all equally large, 0 leaves them.
    """

    source: Literal["components"]
    downsampling: Annotated[int, Field(gt=0, le=16)] = 8
    latent_channels: Positive = 48
    whitening: Ratio = 1.0

    @model_validator(mode="after")
    def _enough_numbers(self) -> ComponentAutoencoder:
        if self.latent_channels > (numbers := 3 * self.downsampling**2):
            raise ValueError(f"latent_channels {self.latent_channels} are more than the {numbers} numbers of a cell")
        return self


class Diffusion(Section):
    """The forward process on the cosine schedule, and what the network learns of it.

    Attributes:
        objective: ``deviation`` is DeCo-Diff; ``noise`` is standard diffusion, for comparison.
        num_train_timesteps: T, the length of the schedule.
        trained_timesteps: how many of the T timesteps are trained, evenly spaced from 0, as some stride gives; null trains all.
    """

    objective: Literal["deviation", "noise"] = "deviation"
    num_train_timesteps: ScheduleLength = 10
    trained_timesteps: Positive | None = None

    @property
    def timesteps(self) -> list[int]:
        """The trained timesteps, ascending. Raises `ValueError` when no even spacing gives that many."""
        return strided_timesteps(self.num_train_timesteps, self.trained_timesteps or self.num_train_timesteps)


class Masking(Section):
    """What is corrupted in training, and by what.

    Attributes:
        corruption: ``patches`` is DeCo-Diff's: patches of latent cells hold noise or foreign patches. ``content``: regions of
            the image hold made content, encoded with it.
        patch_sides: sides of patches, in latent cells; each divides the latent's side, ``image.crop`` over the pixels per cell.
        patch_probabilities: probability of each side; their sum is 1.
        max_ratio: upper end of the ratio of corrupted patches.
        max_foreign_ratio: upper end of the ratio of patch positions whose noise is a foreign patch.
        regions: with ``content``, an image is changed in 1 to so many regions.
    """

    corruption: Literal["patches", "content"] = "patches"
    patch_sides: tuple[Positive, ...]
    patch_probabilities: tuple[Ratio, ...]
    max_ratio: Ratio = 0.7
    max_foreign_ratio: Ratio = 0.3
    regions: Annotated[int, Field(gt=0, le=64)] = 4

    @property
    def patches(self) -> dict[str, Any]:
        """What `decodiff.objectives.patch_corruption` takes."""
        return self.model_dump(include={"patch_sides", "patch_probabilities", "max_ratio", "max_foreign_ratio"})

    @model_validator(mode="after")
    def _lengths(self) -> Masking:
        if len(self.patch_sides) != len(self.patch_probabilities):
            raise ValueError("patch_sides and patch_probabilities must have the same length")
        if abs(sum(self.patch_probabilities) - 1) > 1e-6:
            raise ValueError(f"patch_probabilities sum to {sum(self.patch_probabilities):g}, expected 1")
        return self


class Training(Section):
    """Optimisation of the deviation network.

    The learning rate rises linearly over ``warmup_epochs`` and then follows a cosine over ``epochs · cosine_stretch``
    epochs, of which ``epochs`` are trained. It does so over all of them: a network kept after ten epochs is not that of a
    training over ten.

    Attributes:
        unet: size of the network.
        dropout: in the network's residual blocks; null takes that of its size: 0.4, or 0 of ``UNet_nano``, ``UNet_micro``,
            ``UNet_mini`` and ``UNet_plain``.
        epochs: passes over the training images.
        epoch_images: a pass has so many images, drawn evenly; null: each training image once.
        batch_size: images per batch.
        gradient_accumulation: batches per optimiser step.
        learning_rate: peak of the learning rate.
        weight_decay: of AdamW.
        warmup_epochs: linear rise of the learning rate; may be a fraction, below ``epochs · cosine_stretch``.
        cosine_stretch: the cosine runs over ``epochs · cosine_stretch`` epochs.
        clip_gradient_norm: largest norm of the gradients; null clips nothing.
        mixed_precision: of the network in training; ``"no"`` needs its quotes.
        ema_decay: decay of a moving average of the weights, which is then the result; null keeps the weights themselves.
        look_every: every so many epochs a few anomalous test images are corrected and shown in TensorBoard, with no effect on
            the training; 0 never.
        look_images: how many.
        kept_epochs: after each of these, in ascending order, the network is kept as it would be the result there, for figure
            F9. Variants of a sweep keep none. Another list trains again.
    """

    unet: Literal["UNet_XS", "UNet_S", "UNet_M", "UNet_L", "UNet_nano", "UNet_micro", "UNet_mini", "UNet_plain"]
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    epochs: Positive
    epoch_images: Positive | None = None
    batch_size: Positive
    gradient_accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0001
    warmup_epochs: Annotated[float, Field(ge=0)] = 10
    cosine_stretch: Annotated[float, Field(ge=1)] = 1.5
    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    look_every: Annotated[int, Field(ge=0)] = 0
    look_images: Positive = 4
    kept_epochs: tuple[Positive, ...] = ()

    @model_validator(mode="after")
    def _warmup_ends(self) -> Training:
        if self.warmup_epochs >= self.epochs * self.cosine_stretch:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves nothing of {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _kept_epochs_come(self) -> Training:
        if list(self.kept_epochs) != sorted(set(self.kept_epochs)):
            raise ValueError(f"kept_epochs {list(self.kept_epochs)} must ascend and name each epoch once")
        if self.kept_epochs and self.kept_epochs[-1] > self.epochs:
            raise ValueError(f"kept_epochs: {self.kept_epochs[-1]} never comes in {self.epochs} epochs; leave it out")
        return self


class TrainedModel(Section):
    """A network trained in the pipeline.

    Attributes:
        start: an LDM checkpoint whose ``model.diffusion_model.*`` give the start values where they fit; null starts at random.
    """

    source: Literal["train"] = "train"
    start: str | None = None


class ReferenceModel(Section):
    """The authors' released weights instead of training.

    Attributes:
        path: the checkpoint; ``{scope}`` in it stands for the scope's name.
    """

    source: Literal["reference"]
    path: str


class Inference(Section):
    """How latents are corrected and decoded.

    Attributes:
        mixed_precision: ``bf16`` corrects and decodes in bfloat16; docs/performance.md has what that changes in the maps.
            Images are encoded in float32 all the same: what changes there changes the maps most.
    """

    mixed_precision: Literal["no", "bf16"] = "no"


class Correction(Section):
    """The reverse process.

    Attributes:
        steps: S, the number of correction steps, as some stride over T gives; for T = 10: 1, 2, 3, 4, 5, 10.
        num_train_timesteps: length of its schedule; null takes that of the training.
        noise_timestep: with the objective ``noise``, the one of the S timesteps to which the latent is noised before it is
            denoised.
        batch_size: images at a time.
    """

    steps: Positive = 5
    num_train_timesteps: ScheduleLength | None = None
    noise_timestep: Annotated[int, Field(ge=0)] | None = None
    batch_size: Positive = 16


class Scoring(Section):
    """The discrepancies between an image and its correction, and which of the four maps is the result.

    Attributes:
        fusion: which map is the result.
        pixel_clip: pixel differences are clipped at it and divided by it; images are in [-1, 1].
        pixel_sigma: blur of the pixel discrepancy, in image pixels; 0 for none.
        latent_clip: latent differences are clipped at it and divided by it; latents are scaled.
        latent_sigma: blur of the latent discrepancy, in latent cells; 0 for none.
        fused_sigma: blur of the fused maps, in image pixels, not of ``pixel`` and ``latent``; 0 for none.
        batch_size: images at a time.
    """

    fusion: Literal["pixel", "latent", "geometric", "arithmetic"] = "geometric"
    pixel_clip: Annotated[float, Field(gt=0)] = 0.4
    pixel_sigma: Annotated[float, Field(ge=0)] = 3.0
    latent_clip: Annotated[float, Field(gt=0)] = 0.2
    latent_sigma: Annotated[float, Field(ge=0)] = 1.0
    fused_sigma: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Positive = 16

    @property
    def constants(self) -> ScoringSettings:
        from decodiff.scoring import ScoringSettings  # here, so that reading a configuration need not wait for PyTorch

        return ScoringSettings(**self.model_dump(exclude={"fusion", "batch_size"}))


class Floor(Section):
    """The method without a network that every table has beside the others.

    Attributes:
        patch_side: side of a patch, in pixels; at most ``image.crop``.
        variance_kept: share of the patches' variance that the principal components hold.
        patches: so many of a category's training images, or all if there are fewer, give the components.
    """

    patch_side: Annotated[int, Field(gt=0, le=16)] = 4
    variance_kept: Annotated[float, Field(gt=0, le=0.9999)] = 0.999
    patches: Positive = 100_000


METHOD_PLACES = ("train", "test", "maps", "minutes", "seed")


class Method(Section):
    """A method beside the run's own: a command that is given pictures and writes maps (docs/methods.md).

    Attributes:
        command: a program and its arguments; ``{train}``, ``{test}``, ``{maps}``, ``{minutes}`` and ``{seed}`` are filled in.
        requirements: lock file of the Python environment that it runs in, with checksums; null: that of the workflow.
        minutes: of training, for the command to keep to.
        limit_minutes: after so many it is ended.
    """

    command: str
    requirements: str | None = None
    minutes: Annotated[float, Field(gt=0)] = 30
    limit_minutes: Annotated[float, Field(gt=0)] = 120

    @model_validator(mode="after")
    def _places(self) -> Method:
        try:
            words = shlex.split(self.command)
            named = {name for word in words for _, name, *_ in string.Formatter().parse(word) if name is not None}
        except ValueError as error:
            raise ValueError(f"command: {error}; braces and quotes come in pairs") from error
        if not words:
            raise ValueError("command: empty; expected a program and its arguments")
        if unknown := named - set(METHOD_PLACES):
            known = ", ".join(f"{{{name}}}" for name in METHOD_PLACES)
            raise ValueError(f"command: unknown {{{min(unknown)}}}; expected of {known}")
        if missing := [name for name in ("test", "maps") if name not in named]:
            raise ValueError(f"command: without {{{missing[0]}}} it does not know where the {missing[0]} lie; name it")
        if self.limit_minutes < self.minutes:
            raise ValueError(f"limit_minutes: {self.limit_minutes:g} are fewer than the {self.minutes:g} minutes of training")
        return self


class Evaluation(Section):
    """How anomaly maps are measured.

    Attributes:
        protocol: see docs/protocol.md.
        top_pixels: an image's score is the mean of so many of its highest pixels; 1 takes the maximum.
        resamples: of the bootstrap behind the intervals.
        false_alarm_rate: part of normal images that the threshold, chosen on held-out normal images, may call anomalous.
    """

    protocol: Literal["standard", "reference"] = "standard"
    top_pixels: Positive = 1
    resamples: Annotated[int, Field(ge=20)] = 1000
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
