"""A trained model as a diffusers pipeline: images in, anomaly maps and scores out, by the parts that the stages call.

A folder of it holds ``model_index.json``, the networks in ``vae/`` and ``unet/`` and the scheduler in ``scheduler/``. It names
no code: whatever ``model_index.json`` says, only the classes of this module's table are built, from safetensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SCHEDULER_CONFIG_NAME
from diffusers.utils import BaseOutput
from huggingface_hub import snapshot_download
from PIL import Image as Picture
from pydantic import ValidationError, model_validator

from decodiff.correction import correct
from decodiff.data.images import as_rgb, squared
from decodiff.data.pose import posed
from decodiff.data.views import cropped, network_input, to_uint8
from decodiff.errors import InputError
from decodiff.files import read_json, replacing, write_json
from decodiff.metrics import image_scores
from decodiff.models.autoencoder import ENCODED_TOGETHER, Autoencoder, Module, load_autoencoder
from decodiff.models.storage import save_network
from decodiff.models.unet import DeviationUNet, load_unet
from decodiff.scheduler import DeviationScheduler
from decodiff.scoring import decoded_maps
from decodiff.settings import Correction, Image, Inference, Pose, Positive, ScheduleLength, Scoring, Section, problems
from decodiff.timesteps import strided_timesteps

INDEX_FILE = "model_index.json"
# of the folder's files, all that is read; nothing else is brought from the hub
FILES = (INDEX_FILE, "*/*.json", "*/*.safetensors", "README.md")

# one or more, of any size and mode, or arrays uint8 [H,W,3]
Pictures = Sequence[Picture.Image | np.ndarray] | Picture.Image | np.ndarray
StepCallback = Callable[["DeCoDiffPipeline", int, int, dict[str, torch.Tensor]], Any]


class ModelSettings(Section):
    """What a model is used with, as its folder keeps it.

    Attributes:
        categories: names by the index that the network knows them by.
        thresholds: score above which an image of a category is called anomalous; a category without held-out normal images has
            none.
        poses: that images of a category are turned to, see `decodiff.settings.Data`; those of others stay as they are.
        top_pixels: as in `decodiff.settings.Evaluation`.
        image, correction, scoring, inference: as in a configuration.
    """

    categories: tuple[str, ...]
    thresholds: dict[str, float] = {}
    poses: dict[str, Pose] = {}
    top_pixels: Positive = 1
    image: Image
    correction: Correction
    scoring: Scoring
    inference: Inference

    @model_validator(mode="after")
    def _fit(self) -> ModelSettings:
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise ValueError("categories must be named, each once")
        for name in ("thresholds", "poses"):
            if unknown := sorted(set(getattr(self, name)) - set(self.categories)):
                raise ValueError(f"{name} of unknown categories {', '.join(unknown)}")
        return self


class ImageProcessor:
    """Images as the networks see them.

    Args:
        image: side to resize to, crop, filter and contrast.
    """

    def __init__(self, image: Image):
        self.image = image

    def resized(self, image: Picture.Image, pose: Pose = "as_is") -> np.ndarray:
        """An image of any size and mode, turned to the pose, at ``resize`` pixels square, as `decodiff.stages.prepare` has it:
        uint8 ``[S,S,3]``.

        Raises:
            InputError: an image of floating-point numbers or of another mode that has no agreed look.
        """
        named = Path(getattr(image, "filename", "") or "image")
        return squared(posed(as_rgb(image, named), pose), self.image.resize, self.image.filter)

    def crops(self, images: Sequence[Picture.Image | np.ndarray], poses: Sequence[Pose] | None = None) -> np.ndarray:
        """uint8 ``[N,crop,crop,3]`` of pictures or of arrays uint8 ``[H,W,3]``, each turned to its pose; None leaves them."""
        pictures = [Picture.fromarray(image) if isinstance(image, np.ndarray) else image for image in images]
        asked: Sequence[Pose] = poses or ["as_is"] * len(pictures)
        resized = [self.resized(picture, pose) for picture, pose in zip(pictures, asked, strict=True)]
        return cropped(np.stack(resized), self.image.crop)

    def __call__(self, images: Sequence[Picture.Image | np.ndarray], poses: Sequence[Pose] | None = None) -> torch.Tensor:
        """float32 ``[N,3,crop,crop]``, nominally in [-1, 1], of what `crops` takes."""
        return network_input(self.crops(images, poses), self.image.contrast)


@dataclass
class DeCoDiffPipelineOutput(BaseOutput):
    """What a pipeline says of N images.

    Attributes:
        anomaly_maps: float32 ``[N,H,W]`` in [0, 1], of the crop of the image in its category's pose; higher is more anomalous.
        scores: float64 ``[N]`` in [0, 1].
        corrections: what the networks would have expected, uint8 ``[N,H,W,3]``, in the contrast that they see.
    """

    anomaly_maps: np.ndarray
    scores: np.ndarray
    corrections: np.ndarray


class _Schedule(Section):
    num_train_timesteps: ScheduleLength


def _schedule(path: Path) -> dict[str, int]:
    found = read_json(path, ("num_train_timesteps",))["num_train_timesteps"]
    try:
        return _Schedule(num_train_timesteps=found).model_dump()
    except ValidationError as error:
        raise InputError(f"{path}: num_train_timesteps {found!r}, expected a whole number; publish the model again") from error


def _model_settings(values: Any, path: Path) -> ModelSettings:
    try:
        return ModelSettings.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {'; '.join(problems(error))}; publish the model again") from error


class DeCoDiffPipeline(DiffusionPipeline):
    """Corrects what deviates from normality and says where (Beizaee et al., CVPR 2025).

    Args:
        vae: the autoencoder's network.
        unet: the deviation network.
        scheduler: whose schedule the correction takes.
        image_processor: prepares images.
        settings: categories, thresholds and constants, see `ModelSettings`; what the image processor has stands in for
            ``settings["image"]``.

    Attributes:
        folder: that it was read from; None of one that was put together.

    Raises:
        InputError: parts that do not fit each other.
    """

    folder: Path | None = None
    # what register_modules sets
    vae: Module
    unet: DeviationUNet
    scheduler: DeviationScheduler
    image_processor: ImageProcessor

    def __init__(
        self,
        vae: Module,
        unet: DeviationUNet,
        scheduler: DeviationScheduler,
        image_processor: ImageProcessor,
        settings: dict[str, Any] | None = None,
    ):
        super().__init__()
        known = _model_settings({**(settings or {}), "image": image_processor.image.model_dump()}, Path("settings"))
        if vae.config["latent_channels"] != unet.config["latent_channels"]:
            channels = f"{unet.config['latent_channels']} channels, that of vae {vae.config['latent_channels']}"
            raise InputError(f"unet: made for latents of {channels}; take both from one run")
        if unet.config["num_categories"] != len(known.categories):
            known_to_it = f"{unet.config['num_categories']} categories, {len(known.categories)} are named"
            raise InputError(f"unet: made for {known_to_it}; take both from one run")
        try:
            strided_timesteps(scheduler.config["num_train_timesteps"], known.correction.steps)
        except ValueError as error:
            raise InputError(f"scheduler: {error}") from error
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler, image_processor=image_processor)
        self.register_to_config(settings=known.model_dump(mode="json"))
        self.settings = known
        self.set_progress_bar_config(disable=True)

    # ---- as a folder

    def save_pretrained(self, save_directory: str | Path, **unused: Any) -> None:  # type: ignore[override]  # as below
        """Write the folder, whole or not at all. Other keywords of diffusers have no meaning here.

        Raises:
            InputError: the folder holds something else, which would be lost.
        """
        check_place(Path(save_directory))
        with replacing(Path(save_directory)) as temporary:
            temporary.mkdir(parents=True)
            for name in ("vae", "unet"):
                save_network(getattr(self, name), temporary / name)
            self.scheduler.save_pretrained(temporary / "scheduler")
            parts = {name: type(getattr(self, name)) for name in ("vae", "unet", "scheduler")}
            index = {
                "_class_name": type(self).__name__,
                **{name: [kind.__module__, kind.__name__] for name, kind in parts.items()},
                "settings": self.settings.model_dump(mode="json"),
            }
            write_json(temporary / INDEX_FILE, index)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # what else diffusers takes has no meaning here
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        torch_dtype: torch.dtype | None = None,
    ) -> Self:
        """Read a folder, or bring one from the hub by its id; no code that it may hold or name is run.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or ``<owner>/<name>`` on the hub.
            revision: of the hub: branch, tag or commit.
            token: of the hub, for what is not public.
            torch_dtype: of the networks' weights.

        Raises:
            InputError: there is no such folder, or a part is missing, damaged or of another model.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = _brought(str(pretrained_model_name_or_path), revision, token)
        index = read_json(folder / INDEX_FILE, ("_class_name", "settings"))
        if index["_class_name"] != cls.__name__:
            raise InputError(f"{folder / INDEX_FILE}: a {index['_class_name']}, expected a {cls.__name__}")
        settings = _model_settings(index["settings"], folder / INDEX_FILE)
        vae, unet = load_autoencoder(folder / "vae").module, load_unet(folder / "unet")
        try:
            scheduler = DeviationScheduler(**_schedule(folder / "scheduler" / SCHEDULER_CONFIG_NAME))
            pipeline = cls(vae, unet, scheduler, ImageProcessor(settings.image), settings.model_dump(mode="json"))
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        pipeline.folder = folder
        return pipeline.to(torch_dtype) if torch_dtype else pipeline

    # ---- use

    @property
    def categories(self) -> tuple[str, ...]:
        """Names by the index that the network knows them by."""
        return self.settings.categories

    @property
    def batch_size(self) -> int:
        """So many images are whole batches of every stage of the benchmark."""
        return math.lcm(ENCODED_TOGETHER, self.settings.correction.batch_size, self.settings.scoring.batch_size)

    def threshold(self, category: str) -> float | None:
        """Score above which an image of the category is called anomalous; None where no held-out normal image gave one."""
        return self.settings.thresholds.get(category)

    def pose(self, category: str) -> Pose:
        """That images of the category are turned to."""
        return self.settings.poses.get(category, "as_is")

    def _named(self, category: str | Sequence[str] | None, count: int) -> list[str]:
        """The category of each image."""
        if category is None:
            if len(self.categories) > 1:
                raise InputError(f"category: the model knows several; name one of {', '.join(self.categories)}")
            category = self.categories[0]
        names = [category] * count if isinstance(category, str) else list(category)
        if len(names) != count:
            raise InputError(f"category: {len(names)} of them for {count} images; give one, or one for each")
        for name in names:
            if name not in self.categories:
                raise InputError(f"category: {name!r} is not one that the model knows: {', '.join(self.categories)}")
        return names

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Images float32 ``[B,3,crop,crop]``, nominally in [-1, 1] and in the contrast that the networks see, of latents."""
        with self._precision():
            return Autoencoder(self.vae).decode(latent.to(self.vae.dtype))

    def _precision(self) -> torch.autocast:
        wanted = self.settings.inference.mixed_precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted and self.unet.dtype == torch.float32)

    def _corrected(
        self, latent: torch.Tensor, category: torch.Tensor, steps: int, callback: StepCallback | None
    ) -> torch.Tensor:
        def tell(step: int, timestep: int, current: torch.Tensor, original: torch.Tensor) -> None:
            if callback:
                callback(self, step, timestep, {"latents": current, "pred_original_sample": original})

        self.scheduler.set_timesteps(steps)
        with self._precision():
            return correct(self.unet, latent, category, self.scheduler, tell)

    @overload
    def __call__(
        self,
        images: Pictures,
        category: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        batch_size: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        return_dict: Literal[True] = True,
    ) -> DeCoDiffPipelineOutput: ...

    @overload
    def __call__(
        self,
        images: Pictures,
        category: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        batch_size: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        *,
        return_dict: Literal[False],
    ) -> tuple[np.ndarray, ...]: ...

    @torch.no_grad()
    def __call__(
        self,
        images: Pictures,
        category: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        batch_size: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        return_dict: bool = True,
    ) -> DeCoDiffPipelineOutput | tuple[np.ndarray, ...]:
        """Correct images and compare them with their corrections.

        In the benchmark's own batches, images give the benchmark's maps and scores to the bit. Another size of batch may change
        the last bits, as libraries then add in another order.

        Args:
            images: one or more pictures of any size and mode, or arrays uint8 ``[H,W,3]``.
            category: of all images, or one for each; may be left out where the model knows one only.
            num_inference_steps: S; by default that of the run.
            batch_size: images at a time; by default those of the run's stages.
            callback_on_step_end: called after each step of each batch with the pipeline, the step, the timestep and a
                dictionary with ``latents`` and ``pred_original_sample``, float ``[B,C,h,w]``. What it returns is not used.
            return_dict: whether to give a `DeCoDiffPipelineOutput`, or a tuple of its values.

        Raises:
            InputError: an unknown category, an image without an agreed look, or a map that holds NaN.
            ValueError: no stride over the schedule gives that many steps.
        """
        pictures: list[Picture.Image | np.ndarray]
        if isinstance(images, Picture.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
            pictures = [images]
        else:
            pictures = list(images)
        names, coder = self._named(category, len(pictures)), Autoencoder(self.vae)
        indices = torch.tensor([self.categories.index(name) for name in names], device=self.device)
        poses = [self.pose(name) for name in names]
        settings, steps = self.settings, num_inference_steps or self.settings.correction.steps
        if not pictures:
            raise InputError("images: none given; give at least one")

        def batches(size: int) -> list[slice]:
            return [slice(start, start + size) for start in range(0, len(pictures), size)]

        def encode(part: slice) -> torch.Tensor:
            # laid out as it comes from a file: other layouts are computed in another order
            return coder.encode(self.image_processor(pictures[part], poses[part]).to(self.vae.dtype))[0].contiguous()

        latent = torch.cat([encode(part) for part in batches(batch_size or ENCODED_TOGETHER)])
        corrected = torch.cat(
            [
                self._corrected(latent[part], indices[part], steps, callback_on_step_end).contiguous()
                for part in batches(batch_size or settings.correction.batch_size)
            ]
        )
        constants = settings.scoring.constants
        compared = [
            decoded_maps(self.decode, latent[part].float(), corrected[part].float(), constants, settings.scoring.fusion)
            for part in batches(batch_size or settings.scoring.batch_size)
        ]
        maps = torch.cat([result for result, _ in compared]).cpu().numpy()
        check_maps(maps)
        scores = image_scores([(maps, np.zeros(maps.shape, bool))], settings.top_pixels)
        corrections = np.concatenate([to_uint8(reconstruction) for _, reconstruction in compared])
        output = DeCoDiffPipelineOutput(anomaly_maps=maps, scores=scores, corrections=corrections)
        return output if return_dict else output.to_tuple()


def check_maps(maps: np.ndarray) -> None:
    """Raises `InputError` when an anomaly map holds NaN or infinity."""
    if not np.isfinite(maps).all():
        raise InputError("an anomaly map holds NaN; check the weights and the images")


def check_place(folder: Path) -> None:
    """Raises `InputError` when a model's folder cannot be written there without the loss of something that is none."""
    if folder.is_dir() and ((folder / INDEX_FILE).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise InputError(f"{folder}: holds something that is not a model; give a folder that does not exist")


def _brought(name: str, revision: str | None, token: str | None) -> Path:
    """A model's folder from the hub, in its cache."""
    try:
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=list(FILES)))
    except Exception as error:  # whatever the hub or the network makes of it
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name}: neither a folder here nor a model that the hub gives ({reason}); check the name, or download it by hand"
        ) from error
