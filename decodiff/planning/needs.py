"""What each job needs of disk and memory, in bytes. It loads no network, as it is asked whenever Snakemake plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from decodiff.planning.images import Images
from decodiff.planning.plan import Job
from decodiff.settings import PretrainedAutoencoder, TrainedAutoencoder


class UNetNeeds(NamedTuple):
    """Of a size of the network: parameters, and bytes that one latent's cell holds in a step of training, in float32."""

    parameters: float
    per_cell: float


# with 15 categories and 4 latent channels; without attention's matrices, which are never held
UNETS = {
    "UNet_XS": UNetNeeds(24.7e6, 88e3),
    "UNet_S": UNetNeeds(98.8e6, 176e3),
    "UNet_M": UNetNeeds(222.2e6, 264e3),
    "UNet_L": UNetNeeds(395.0e6, 351e3),
    "UNet_nano": UNetNeeds(0.26e6, 19e3),
    "UNet_micro": UNetNeeds(0.45e6, 19e3),
    "UNet_mini": UNetNeeds(1.76e6, 24e3),
    "UNet_plain": UNetNeeds(1.38e6, 10e3),
}
# parameters of Stable Diffusion's autoencoder, its channels at an image's own size, and those of its latents
STABLE_DIFFUSION_PARAMETERS, STABLE_DIFFUSION_CHANNELS, STABLE_DIFFUSION_LATENT = 83.7e6, 128, 4
FLOAT = 4
# AdamW's: the weights, their gradients and two moments in memory; all but the gradients in a state to resume from
OPTIMISED, STATE = 4 * FLOAT, 3 * FLOAT
# the last two are kept while the next is written
STATES = 3
# Held by a process that computes with networks, or without; those libraries alone take it.
NETWORK_PROCESS, PROCESS = 300e6, 50e6
# of an image as the code or `make-defects` writes it, a mask and what the lists say of it beside; the former are 64 px wide
GENERATED_IMAGE, LISTED = 5_000, 150
# a figure in both formats, what the report shows of an image under a model, and what any other job leaves with its log
FIGURE, SHOWN_IMAGE, OTHER = 200_000, 9_000, 50_000
# bytes of a resample of all metrics of a category, compressed, and in memory
RESAMPLE, RESAMPLED = 20, 36
# images that are encoded at a time
ENCODED_TOGETHER = 32


class Need(NamedTuple):
    """Of a job, bytes.

    Attributes:
        kept: what its outputs take on disk.
        working: what it writes besides while it runs, and removes.
        memory: what it holds at least.
        setting: the key that decides on its memory; empty where none does.
    """

    kept: float
    working: float
    memory: float
    setting: str


class Needs(Images):
    """What the jobs of a run need; see `decodiff.planning.images.Images`."""

    # ---- sizes

    @property
    def _latent(self) -> float:
        """Of one latent, float32."""
        settings = self._config.autoencoder
        return FLOAT * getattr(settings, "latent_channels", STABLE_DIFFUSION_LATENT) * self._cells

    @property
    def _cells(self) -> int:
        return (self._config.image.crop // self._config.autoencoder.downsampling) ** 2

    @property
    def _pixels(self) -> int:
        return self._config.image.crop**2

    def _autoencoder_parameters(self) -> float:
        settings = self._config.autoencoder
        if isinstance(settings, PretrainedAutoencoder):
            return STABLE_DIFFUSION_PARAMETERS
        if isinstance(settings, TrainedAutoencoder):
            # encoder and decoder: at each level blocks of three convolutions, and one between levels
            convolutions = 2 * settings.downsampling.bit_length() * (3 * settings.blocks + 1)
            return convolutions * 9 * settings.channels**2
        return 2 * 3 * settings.downsampling**2 * settings.latent_channels

    def _picture_layer(self) -> float:
        """What the widest layer of the autoencoder holds of one picture, float32."""
        settings = self._config.autoencoder
        channels = 3
        if isinstance(settings, PretrainedAutoencoder):
            channels = STABLE_DIFFUSION_CHANNELS
        elif isinstance(settings, TrainedAutoencoder):
            channels = settings.channels
        return FLOAT * channels * self._pixels

    # ---- by rule

    def _fetched(self, dataset: str) -> tuple[float, float]:
        """Bytes that stay and that go again."""
        count, entry = self.images(dataset, True) + self.images(dataset, False), self._config.entry(dataset)
        if entry.origin == "generated":
            return count * (GENERATED_IMAGE + LISTED), 0
        if self._config.data[dataset].source or entry.origin == "own":
            return count * LISTED, 0
        # an archive beside what it holds, which is compressed already
        return count * LISTED + 2 * entry.size, 0

    def _trained(self, training: Mapping[str, Any], scope: str, on_processor: bool) -> Need:
        unet = UNETS[training["unet"]]
        averaged = FLOAT * (training["ema_decay"] is not None)
        memory = NETWORK_PROCESS + FLOAT * unet.parameters
        if on_processor:
            batch = min(training["batch_size"], training["epoch_images"] or self.trained(scope))
            memory = NETWORK_PROCESS + (OPTIMISED + averaged) * unet.parameters + batch * unet.per_cell * self._cells
        kept = (1 + len(training["kept_epochs"])) * FLOAT * unet.parameters
        states = STATES * (STATE + averaged) * unet.parameters
        return Need(kept + OTHER, states, memory, "training.batch_size, or another training.unet")

    def of(self, job: Job, on_processor: bool) -> Need:
        """What a job needs.

        Args:
            job: of the plan.
            on_processor: whether networks compute there and not on an accelerator, whose memory is its own.
        """
        config, rule = self._config, job.rule.removesuffix("_variant")
        dataset, scope = job.wildcards.get("dataset", ""), job.wildcards.get("scope", "")
        pixels, side = self._pixels, config.image.resize**2
        tested = self.tested(dataset, scope) if dataset and scope else 0.0
        others = self.images(dataset, False) if dataset else 0.0
        weights = FLOAT * UNETS[self.size(job.wildcards)].parameters
        coder = FLOAT * self._autoencoder_parameters()
        networks = NETWORK_PROCESS
        # on an accelerator a batch of pictures is all that lies here
        layer = self._picture_layer() if on_processor else 3 * FLOAT * pixels
        encoded = ENCODED_TOGETHER * layer
        match rule:
            case "fetch":
                return Need(*self._fetched(dataset), PROCESS, "")
            case "make_defects":
                made = (self.images(dataset, True) + others) * (3 * side + LISTED)
                return Need(made, 0, PROCESS, "")
            case "prepare":
                arrays = 3 * side * (self.images(dataset, True) + others) + 2 * side * others
                return Need(arrays + OTHER, 0, PROCESS, "")
            case "autoencoder":
                memory, working, key = networks + coder, 0.0, ""
                if isinstance(config.autoencoder, TrainedAutoencoder):
                    crops = config.autoencoder.batch_size * config.autoencoder.crop**2
                    working, key = STATES * STATE * self._autoencoder_parameters(), "autoencoder.batch_size"
                    memory += crops * FLOAT * (config.autoencoder.channels if on_processor else 3)
                return Need(coder + OTHER, working, memory, key)
            case "encode":
                kept = 2 * self.encoded(dataset, job.settings) * self._latent
                return Need(kept + OTHER, 0, networks + coder + encoded, "image.crop")
            case "encode_test":
                return Need(others * self._latent + OTHER, 0, networks + coder + encoded, "image.crop")
            case "train":
                return self._trained(job.settings["training"], scope, on_processor)
            case "import_reference":
                return Need(weights + OTHER, 0, networks + weights, "")
            case "correct":
                batch = min(config.correction.batch_size, tested) * self._latent
                return Need(tested * (self._latent + LISTED) + OTHER, 0, networks + weights + batch, "correction.batch_size")
            case "score":
                # the latent and its correction
                held = 2 * min(config.scoring.batch_size, tested) * layer
                return Need(tested * ((FLOAT + 3) * pixels + LISTED) + OTHER, 0, networks + coder + held, "scoring.batch_size")
            case "over_compute":
                return Need(OTHER, 0, networks + weights + coder, "")
            case "floor":
                patches = min(config.floor.patches, max(self.by_category(dataset, True).values(), default=0) * pixels)
                held = patches * 3 * FLOAT * config.floor.patch_side**2
                return Need(others * (FLOAT * pixels + LISTED) + OTHER, 0, PROCESS + held, "floor.patches")
            case "method":
                return Need(tested * (FLOAT * pixels + LISTED) + OTHER, tested * (3 + FLOAT) * pixels, PROCESS, "")
            case "evaluate" | "evaluate_floor" | "evaluate_method":
                resamples = config.evaluation.resamples
                kept = (1 + len(self.by_category(dataset, False))) * resamples * RESAMPLE + others * LISTED / 2
                return Need(kept + OTHER, 0, PROCESS + resamples * RESAMPLED, "evaluation.resamples")
            case "report":
                shown = sum(self.tested(name, part) for part in config.scopes for name in config.members(part))
                # with the pictures of all figures in it
                figures = sum(path.endswith(".png") for path in job.inputs)
                return Need(shown * SHOWN_IMAGE + figures * FIGURE / 2, 0, PROCESS, "")
        figures = sum(path.endswith(".png") for path in job.outputs)
        return Need(figures * FIGURE if figures else OTHER, 0, PROCESS, "")
