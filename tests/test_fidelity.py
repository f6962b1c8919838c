"""From image files to metrics, and one training step, against the authors' steps restated plainly with the libraries they call.

docs/fidelity.md is the table of what these and the golden tests hold.
"""

import csv
import math

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import measure
from skimage.transform import resize
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score
from test_reference import authors_state
from typer.testing import CliRunner

from decodiff.cli import app
from decodiff.data.images import read_rgb, squared
from decodiff.data.registry import REGISTRY
from decodiff.data.rows import read_rows
from decodiff.data.views import cropped, to_tensor
from decodiff.files import bytes_sha256
from decodiff.metrics import METRICS
from decodiff.models.unet import build_unet, load_unet
from decodiff.objectives import deviation_example, squared_errors
from decodiff.scheduler import DeviationScheduler
from decodiff.stages.prepare import resized_mask

RESIZE, CROP, CELL = 75, 64, 8
SCALING = 0.18215
# constants of the two recipes that matter after training: what a latent difference is clipped at, blur of the fused map
RECIPES = {"released": (0.2, 0), "paper": (0.4, 1)}


# ---- the authors' steps


def authors_image(path):
    """float32 ``[1,3,CROP,CROP]`` in [-1, 1]."""
    image = np.array(Image.open(path).convert("RGB").resize((RESIZE, RESIZE))).astype(np.uint8)
    margin = (RESIZE - CROP) // 2
    image = image[margin : margin + CROP, margin : margin + CROP].astype(np.float32) / 255.0
    return ((torch.from_numpy(image.transpose(2, 0, 1)) - 0.5) / 0.5)[None]


def authors_mask(path):
    """0 and 1 ``[CROP,CROP]``; without a file all 0."""
    margin = (RESIZE - CROP) // 2
    if path is None:
        return np.zeros((CROP, CROP), np.int32)
    mask = (np.array(Image.open(path).convert("L").resize((RESIZE, RESIZE))) > 0).astype(np.int32)
    return mask[margin : margin + CROP, margin : margin + CROP]


def alphas_cumprod(length):
    """The cosine schedule of Nichol and Dhariwal, β at most 0.999."""

    def level(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - level((step + 1) / length) / level(step / length), 0.999) for step in range(length)]
    return np.cumprod(1 - np.array(betas))


def authors_correction(network, latent, category):
    """Five deterministic steps at 8, 6, 4, 2, 0 of 10."""
    levels = alphas_cumprod(10)
    for step in (8, 6, 4, 2, 0):
        direction = network(latent, torch.tensor([step]), torch.tensor([category]))
        clean = latent - math.sqrt(1 - levels[step]) * direction
        latent = clean if step == 0 else clean + math.sqrt(1 - levels[step - 2]) * direction
    return latent


def authors_map(x0, corrected, latent, corrected_latent, clip, sigma):
    """The geometric map ``[CROP,CROP]``."""
    pixel = (corrected - x0).abs()[0].numpy().transpose(1, 2, 0).max(axis=2)
    pixel = gaussian_filter(np.clip(pixel, 0.0, 0.4) * 2.5, sigma=3)
    difference = (corrected_latent - latent).abs()[0].numpy().transpose(1, 2, 0).mean(axis=2)
    difference = gaussian_filter(np.clip(difference, 0.0, clip) / clip, sigma=1)
    fused = np.sqrt(pixel * resize(difference, (CROP, CROP)))
    return gaussian_filter(fused, sigma=sigma) if sigma else fused


def authors_aupro(masks, maps):
    low, high = maps.min(), maps.max()
    curve = []
    for threshold in np.arange(low, high, (high - low) / 200):
        called = maps > threshold
        overlaps = [
            binary[region.coords[:, 0], region.coords[:, 1]].sum() / region.area
            for binary, mask in zip(called, masks)
            for region in measure.regionprops(measure.label(mask))
        ]
        curve.append((np.logical_and(1 - masks, called).sum() / (1 - masks).sum(), np.mean(overlaps)))
    curve = np.array([point for point in curve if point[0] < 0.3])
    return auc(curve[:, 0] / curve[:, 0].max(), curve[:, 1])


def authors_metrics(masks, maps):
    """The seven metrics of one category; an image's label and score are the maxima of its mask and map."""

    def f1max(truth, score):
        precision, recall, _ = precision_recall_curve(truth, score)
        return (2 * precision * recall / (precision + recall + 1e-10)).max()

    images = masks.max(axis=(1, 2)), maps.max(axis=(1, 2))
    values = [function(*images) for function in (roc_auc_score, average_precision_score, f1max)]
    pixels = masks.flatten(), maps.flatten()
    values += [function(*pixels) for function in (roc_auc_score, average_precision_score, f1max)]
    return dict(zip(METRICS, [*values, authors_aupro(masks, maps)], strict=True))


# ---- images in the layouts of both data sets


def drawn(random, size):
    """A smooth picture, uint8 ``[H,W,3]``."""
    noise = random.standard_normal((size[1], size[0], 3))
    smooth = gaussian_filter(noise, (5, 5, 0))
    return np.uint8(128 + 110 * np.clip(smooth / np.abs(smooth).max(), -1, 1))


def pair(random, size, kind):
    """A picture with a defect, and where it is, uint8 ``[H,W]``: 0, and its kind in two places."""
    picture, mask = drawn(random, size), np.zeros((size[1], size[0]), np.uint8)
    for _ in range(2):
        width, height = random.integers(4, size[0] // 3), random.integers(4, size[1] // 3)
        left, top = random.integers(size[0] // 6, size[0] // 2), random.integers(size[1] // 6, size[1] // 2)
        picture[top : top + height, left : left + width] = random.integers(0, 256, 3)
        mask[top : top + height, left : left + width] = kind
    return picture, mask


def in_mvtecs_layout(root, random):
    """Two categories, images of several sizes and modes, black and white masks."""
    forms = {"bolt": ((120, 90), "RGB", ".png"), "nut": ((83, 140), "L", ".bmp")}
    for category, (size, mode, suffix) in forms.items():
        for folder in ("train/good", "test/good", "test/bent", "ground_truth/bent"):
            (root / category / folder).mkdir(parents=True)
        for index in range(6):
            for folder in ("train/good", "test/good"):
                path = root / category / folder / f"{index:03d}{suffix}"
                Image.fromarray(drawn(random, size)).convert(mode).save(path)
            picture, mask = pair(random, size, 255)
            Image.fromarray(picture).convert(mode).save(root / category / "test/bent" / f"{index:03d}{suffix}")
            Image.fromarray(mask).save(root / category / "ground_truth/bent" / f"{index:03d}_mask.png")
    return {"mine": {"kind": "folder", "source": str(root)}}, tuple(forms)


def in_visas_layout(root, random):
    """JPEGs, and masks of class numbers, in VisA's own folders and list."""
    rows = []
    for category in REGISTRY["visa"].categories:
        for label, count in (("Normal", 5), ("Anomaly", 4)):
            (root / category / "Data/Images" / label).mkdir(parents=True)
            for index in range(count):
                image = f"{category}/Data/Images/{label}/{index:03d}.JPG"
                picture, mask = pair(random, (150, 100), int(random.integers(1, 4)))
                Image.fromarray(picture if label == "Anomaly" else drawn(random, (150, 100))).save(root / image, quality=95)
                path = f"{category}/Data/Masks/Anomaly/{index:03d}.png" if label == "Anomaly" else ""
                if path:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(root / path)
                split = "train" if label == "Normal" and index < 2 else "test"
                rows.append([category, split, "anomaly" if path else "normal", image, path])
    (root / "split_csv").mkdir()
    with open(root / "split_csv/1cls.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["object", "split", "label", "image", "mask"], *rows])
    return {"mine": {"kind": "visa", "source": str(root)}}, REGISTRY["visa"].categories


def networks(folder, categories):
    """A random autoencoder of 8 pixels a cell, and a random network as a checkpoint of the authors."""
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        scaling_factor=SCALING,
    ).save_pretrained(folder / "kl")
    network = build_unet("UNet_nano", categories, latent_channels=4)
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.05)
    torch.save({"model": authors_state(network), "args": None}, folder / "weights.pt")


def decodiff(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("layout", [in_mvtecs_layout, in_visas_layout])
@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_all_metrics_are_those_of_the_authors_steps_from_file_to_number(tmp_path, layout, recipe):
    data, categories = layout(tmp_path / "images", np.random.default_rng(0))
    networks(tmp_path, len(categories))
    settings = {
        "run": "fidelity",
        "recipe": recipe,
        "data": {"mine": {**data["mine"], "augmentation": {}}},
        "scopes": {"all": [f"mine/{category}" for category in categories]},
        "image": {"resize": RESIZE, "crop": CROP},
        "autoencoder": {"source": "pretrained", "path": str(tmp_path / "kl")},
        "masking": {"patch_sides": [1], "patch_probabilities": [1]},
        "training": {"unet": "UNet_nano"},
        "model": {"source": "reference", "path": str(tmp_path / "weights.pt")},
        "evaluation": {"protocol": "reference", "resamples": 20},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    config, manifest, prepared = ("--config", tmp_path / "run.yaml"), tmp_path / "data/manifest.csv", tmp_path / "data/prepared"
    coder, unet, latents, results = (tmp_path / name for name in ("autoencoder", "unet", "latents", "results"))
    decodiff("fetch", "mine", *config, "--output", manifest)
    decodiff("prepare", manifest, "--resize", RESIZE, "--output", prepared)
    decodiff("autoencoder", *config, "--output", coder)
    decodiff("encode-test", *config, "--prepared", prepared, "--autoencoder", coder, "--output", latents)
    decodiff("import-reference", tmp_path / "weights.pt", *config, "--scope", "all", "--output", unet)
    both = ("--latents", latents, *config, "--output", results)
    decodiff("correct", *both, "--dataset", "mine", "--unet", unet, "--prepared", prepared)
    decodiff("score", *both, "--corrected", results, "--autoencoder", coder)
    run = ("--dataset", "mine", "--scope", "all", "--seed", 0)
    decodiff("evaluate", *config, *run, "--results", results, "--prepared", prepared, "--output", results)

    vae, network = AutoencoderKL.from_pretrained(tmp_path / "kl").eval(), load_unet(unet, "cpu")
    found = {category: ([], []) for category in categories}
    maps = np.load(results / "anomaly_maps.npy")
    rows = [row for row in read_rows(manifest) if row.split == "test"]
    for row, own in zip(rows, maps, strict=True):
        latent = vae.encode(authors_image(manifest.parent / row.image)).latent_dist.mean * SCALING
        corrected = authors_correction(network, latent, categories.index(row.category))
        decoded = [vae.decode(each / SCALING).sample for each in (latent, corrected)]
        expected = authors_map(*decoded, latent, corrected, *RECIPES[recipe])
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-4, err_msg=row.image)
        masks, values = found[row.category]
        masks.append(authors_mask(manifest.parent / row.mask if row.mask else None))
        values.append(expected)
    with open(results / "metrics.csv", newline="") as stream:
        measured = {row["category"]: row for row in csv.DictReader(stream)}
    for category, (masks, values) in found.items():
        expected = authors_metrics(np.stack(masks), np.stack(values))
        for name, value in expected.items():
            # of 200 thresholds one may pass a pixel on the other side
            tolerance = 5e-4 if name == "pixel_aupro" else 1e-4
            assert float(measured[category][name]) == pytest.approx(value, abs=tolerance), (category, name)
        assert 0.02 < np.std(values), "maps that show something"


# ---- single steps of that way


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr"])
@pytest.mark.parametrize("size", [(10, 8), (75, 75), (33, 150), (300, 7)])
def test_images_are_resized_as_pillow_does_by_default(tmp_path, mode, size):
    picture = Image.fromarray(np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "YCbCr") else "picture.png")
    picture.convert(mode).save(path)
    expected = np.array(Image.open(path).convert("RGB").resize((40, 40)))
    sha256 = bytes_sha256(path.read_bytes())
    np.testing.assert_array_equal(squared(read_rgb(path, sha256), 40, "bicubic"), expected)
    others = [squared(read_rgb(path, sha256), 40, name) for name in ("nearest", "box", "bilinear", "hamming", "lanczos")]
    assert not any(np.array_equal(other, expected) for other in others)


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 1, 2, 7), (0, 90, 200)])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_masks_of_the_reference_protocol_keep_their_grey_values(tmp_path, values, mode):
    """Class numbers are not made white before they are resized: what is rounded to 0 in between stays normal."""
    random = np.random.default_rng(len(values))
    mask = np.kron(random.choice(values, (9, 7)), np.ones((5, 5))).astype(np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(mask).convert(mode).save(path)
    expected = np.array(Image.open(path).convert("L").resize((24, 24))) > 0
    picture = {path: Image.open(path)}
    np.testing.assert_array_equal(resized_mask(picture, 24, "reference"), expected)
    if values == (0, 1):
        white = {path: Image.fromarray(255 * mask)}
        assert (resized_mask(white, 24, "reference") != expected).any(), "as white it would grow"


@pytest.mark.parametrize(("side", "crop"), [(288, 256), (289, 256), (287, 256), (75, 64), (64, 64)])
def test_the_crop_begins_at_half_the_margin_rounded_down(side, crop):
    images = np.arange(side, dtype=np.int32)[None, :, None, None].repeat(side, 2)
    assert cropped(images, crop)[0, 0, 0, 0] == (side - crop) // 2
    assert cropped(images, crop).shape[1:3] == (crop, crop)


def test_values_have_the_bits_of_the_authors_arithmetic():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    expected = (torch.from_numpy(images.astype(np.float32) / 255.0) - 0.5) / 0.5
    assert torch.equal(to_tensor(images).permute(0, 2, 3, 1), expected)


def test_sixteen_bits_and_transparency_are_not_cut_as_the_authors_code_would(tmp_path):
    """On purpose otherwise: Pillow's own conversion drops what is transparent and cuts 16 bits off."""
    glass = np.zeros((4, 4, 4), np.uint8)
    Image.fromarray(glass).save(tmp_path / "glass.png")
    assert (np.asarray(read_rgb(tmp_path / "glass.png")) == 255).all()
    assert (np.asarray(Image.open(tmp_path / "glass.png").convert("RGB")) == 0).all()


# ---- a training step


def authors_random_mask(batch, side_cells, ratios, patch, random):
    """1 on ``int(n·(1−ratio))`` of the patches of each image, ``[B,1,h,w]``."""
    count = (side_cells // patch) ** 2
    mask = np.zeros((batch, 1, count), np.float32)
    for image, ratio in enumerate(ratios):
        mask[image, :, random.permutation(count)[: int(count * (1 - ratio))]] = 1
    mask = mask.reshape(batch, 1, side_cells // patch, side_cells // patch)
    return mask.repeat(patch, 2).repeat(patch, 3)


@pytest.mark.parametrize("patch", [1, 4, 8, 16])
def test_as_many_cells_are_corrupted_and_foreign_as_in_the_authors_code(patch):
    """Mean, spread and extremes of both over many images: with four patches the rounding decides more than the ratio."""
    batch, cells = 4000, 32
    random = np.random.default_rng(0)
    latent = torch.full((batch, 1, cells, cells), 100.0)
    scheduler, times = DeviationScheduler(num_train_timesteps=10), torch.tensor([0])
    drawn = {"patch_sides": [patch], "patch_probabilities": [1.0], "max_ratio": 0.7, "max_foreign_ratio": 0.3}
    example = deviation_example(scheduler, latent, times, torch.Generator().manual_seed(0), **drawn)
    corrupted = (example.noisy != latent).float().mean(dim=(1, 2, 3)).numpy()
    mask, gaussian = (authors_random_mask(batch, cells, random.uniform(0, high, batch), patch, random) for high in (0.7, 0.3))
    # foreign patches have the value of the others here, so they look corrupted by the schedule alone
    level = math.sqrt(1 - alphas_cumprod(10)[0])
    kept = math.sqrt(alphas_cumprod(10)[0])
    foreign = ((example.noisy - (kept + level) * 100).abs() < 1e-2).float().mean(dim=(1, 2, 3)).numpy()
    for ours, theirs in ((corrupted, 1 - mask), (foreign, (1 - mask) * (1 - gaussian))):
        theirs = theirs.mean(axis=(1, 2, 3))
        bound = 4 * theirs.std() * math.sqrt(2 / batch)
        assert abs(ours.mean() - theirs.mean()) < bound
        assert ours.std() == pytest.approx(theirs.std(), rel=0.08)
    assert corrupted.min() >= (patch / cells) ** 2 - 1e-6, "at least one patch, whatever the ratio"


def test_a_training_step_changes_the_weights_as_the_authors_code_does():
    """Corruption, target, loss, gradient and AdamW, on given masks, noise and timesteps, at the same learning rate.

    In double precision: AdamW's first step is as large for a gradient of rounding errors as for any other.
    """
    torch.manual_seed(0)
    network = build_unet("UNet_nano", 2, latent_channels=4).double()
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.05)
    theirs = build_unet("UNet_nano", 2, latent_channels=4).double()
    theirs.load_state_dict(network.state_dict())
    latent, noise = torch.randn(2, 6, 4, 8, 8, dtype=torch.float64)
    mask = (torch.rand(6, 1, 8, 8) > 0.4).double()
    timestep, category = torch.tensor([0, 2, 9, 4, 4, 7]), torch.tensor([0, 1, 0, 1, 1, 0])

    scheduler = DeviationScheduler(num_train_timesteps=10)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4, weight_decay=1e-4, fused=True)
    noisy = scheduler.add_noise(latent, noise, mask, timestep)
    target = scheduler.target(latent, noise, mask, timestep)
    loss = squared_errors(network(noisy, timestep, category), target).mean()
    loss.backward()
    optimizer.step()

    levels = torch.from_numpy(alphas_cumprod(10))[timestep].view(-1, 1, 1, 1)
    signal, deviation = levels.sqrt(), (1 - levels).sqrt()
    x_t = mask * latent + (1 - mask) * (signal * latent + deviation * noise)
    target = (1 - mask) * (noise - (1 - signal) / deviation * latent)
    expected = ((target - theirs(x_t, timestep, category)) ** 2).mean(dim=(1, 2, 3)).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    theirs_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4, weight_decay=1e-4)
    expected.backward()
    theirs_optimizer.step()
    for (name, own), other in zip(network.named_parameters(), theirs.parameters()):
        if own.requires_grad:
            torch.testing.assert_close(own, other, rtol=0, atol=1e-6, msg=name)
