"""A model of anomalib as a method of the benchmark: trains on pictures, writes a map of each test picture (docs/methods.md).

Runs in an environment of its own (anomalib.lock, beside it) and knows nothing of the benchmark but the folders it is given.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from anomalib.data import Folder
from anomalib.models import AnomalibModule, Dinomaly, Draem, EfficientAd, Ganomaly, Padim, Patchcore
from anomalib.models.image.efficient_ad import lightning_model as efficient_ad
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Trainer
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import Compose, Normalize, Resize

BATCH_IMAGES = 8
# what each needs in the folder of weights
BACKBONES = {
    "patchcore": ("wide_resnet50_2.safetensors",),
    "padim": ("resnet18.safetensors",),
    "dinomaly": ("vit_base_patch14_reg4_dinov2.safetensors",),
    "efficient_ad": ("efficientad_pretrained_weights/pretrained_teacher_small.pth", "imagenette"),
}
# their schedules are of so many steps, as published; the time ends them where they take longer
STEPS = {"dinomaly": 5_000, "efficient_ad": 70_000}
# one pass over the training images, without gradients
PASSES = ("patchcore", "padim")
PRETRAINED_MEAN, PRETRAINED_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# sides that DINOv2's patches of 14 pixels divide
DINO_SIDE = 392
PLAIN = {"post_processor": False, "evaluator": False, "visualizer": False}


def local_backbones(weights: Path) -> None:
    """Have timm read pretrained weights from a folder instead of fetching them."""
    create = timm.create_model

    def from_folder(
        name: str, *arguments: Any, pretrained: bool = False, pretrained_cfg: Any = None, **settings: Any
    ) -> torch.nn.Module:
        if pretrained:
            settings["pretrained_cfg_overlay"] = {"file": str(weights / f"{name}.safetensors")}
        return create(name, *arguments, pretrained=pretrained, pretrained_cfg=pretrained_cfg, **settings)

    timm.create_model = from_folder


def needed(name: str, weights: Path | None) -> None:
    """Refuse a model whose backbone is not in the folder of weights."""
    if name not in BACKBONES:
        return
    if weights is None:
        sys.exit(f"{name} needs pretrained weights: give --weights a folder with {' and '.join(BACKBONES[name])}")
    if missing := [file for file in BACKBONES[name] if not (weights / file).exists()]:
        sys.exit(f"{weights}: no {missing[0]}, which {name} needs; put it there")


def built(name: str, side: int, train: Path, weights: Path | None) -> tuple[AnomalibModule, Compose]:
    """A model for pictures of ``side`` pixels, with anomalib's own settings, and what it does to pictures first."""
    if name == "dinomaly":
        transform = Compose([Resize((DINO_SIDE, DINO_SIDE), antialias=True), Normalize(PRETRAINED_MEAN, PRETRAINED_STD)])
    elif name in PASSES:
        transform = Compose([Resize((side, side), antialias=True), Normalize(PRETRAINED_MEAN, PRETRAINED_STD)])
    else:
        # EfficientAD's networks need as much
        sides = (max(side, 256),) * 2 if name == "efficient_ad" else (side, side)
        transform = Compose([Resize(sides, antialias=True)])
    settings = {"pre_processor": PreProcessor(transform=transform), **PLAIN}
    model: AnomalibModule
    match name:
        case "ganomaly":
            model = Ganomaly(batch_size=BATCH_IMAGES, **settings)
        case "draem":
            # textures to paste: DTD where it is given, else the training pictures themselves
            textures = weights / "dtd" if weights and (weights / "dtd").is_dir() else train
            model = Draem(dtd_dir=textures, **settings)
        case "patchcore":
            model = Patchcore(**settings)
        case "padim":
            model = Padim(**settings)
        case "dinomaly":
            model = Dinomaly(**settings)
        case "efficient_ad":
            assert weights is not None  # as `needed` has seen
            efficient_ad.get_pretrained_weights_dir = lambda: weights
            model = EfficientAd(imagenet_dir=weights / "imagenette", **settings)
    return model, transform


def trained(name: str, model: AnomalibModule, train: Path, minutes: float, work: Path) -> None:
    """Train for so many minutes, or as long as its schedule is."""
    categories = sorted(path for path in train.iterdir() if path.is_dir())
    batch = 1 if name == "efficient_ad" else BATCH_IMAGES
    data = Folder(
        "benchmark",
        normal_dir=categories,
        train_batch_size=batch,
        eval_batch_size=batch,
        num_workers=0,
        test_split_mode="none",
        val_split_mode="none",
    )
    length = {"max_epochs": 1} if name in PASSES else {"max_epochs": 10**6, "max_steps": STEPS.get(name, -1)}
    # anomalib's own engine would write a checkpoint after each epoch
    settings = {"limit_val_batches": 0, "enable_checkpointing": False, "logger": False, "enable_progress_bar": False}
    limit = {"max_time": {"seconds": round(60 * minutes)}, "default_root_dir": work}
    Trainer(**length | limit | settings | model.trainer_arguments).fit(model, datamodule=data)


def maps_of(name: str, model: AnomalibModule, pictures: torch.Tensor) -> torch.Tensor:
    """Anomaly maps ``[N,h,w]`` of pictures as the model takes them.

    GANomaly scores pictures and has no map: the score is spread by the error of its reconstruction, so that the map's largest
    value is the score.
    """
    if name != "ganomaly":
        found = model.model(pictures).anomaly_map
        return found[:, 0] if found.ndim == 4 else found
    fake, before, after = model.model.generator(pictures)
    score = (before - after).square().mean(dim=1).view(-1, 1, 1)
    error = (fake - pictures).abs().mean(dim=1)
    return score * error / error.amax(dim=(1, 2), keepdim=True)


@torch.inference_mode()
def write_maps(name: str, model: AnomalibModule, transform: Compose, test: Path, maps: Path, side: int) -> float:
    """Write a map of each test picture; gives pictures per second."""
    paths = sorted(test.glob("*/*.png"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().to(device)
    begin = time.perf_counter()
    for start in range(0, len(paths), BATCH_IMAGES):
        part = paths[start : start + BATCH_IMAGES]
        arrays = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in part])
        pictures = transform(torch.from_numpy(arrays).permute(0, 3, 1, 2).float().div(255)).to(device)
        found = maps_of(name, model, pictures).float()
        if found.shape[-1] != side:
            found = interpolate(found[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
        for path, array in zip(part, found.cpu().numpy(), strict=True):
            (maps / path.parent.name).mkdir(exist_ok=True)
            np.save(maps / path.parent.name / path.stem, array)
    return len(paths) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, choices=("ganomaly", "draem", *BACKBONES))
    for folder in ("train", "test", "maps"):
        parser.add_argument(f"--{folder}", required=True, type=Path)
    parser.add_argument("--minutes", required=True, type=float)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--weights", type=Path, help="folder with the weights of pretrained backbones")
    given = parser.parse_args()
    needed(given.model, given.weights)
    if given.weights:
        local_backbones(given.weights)
    torch.manual_seed(given.seed)
    np.random.seed(given.seed)
    side = Image.open(next(given.test.glob("*/*.png"))).width
    model, transform = built(given.model, side, given.train, given.weights)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        trained(given.model, model, given.train, given.minutes, Path(work))
    seconds = time.perf_counter() - begin
    speed = write_maps(given.model, model, transform, given.test, given.maps, side)
    costs = {
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "images_per_second": speed,
        "training_seconds": seconds,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
    }
    (given.maps / "costs.json").write_text(json.dumps(costs), encoding="utf-8")


if __name__ == "__main__":
    main()
