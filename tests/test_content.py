"""Made content: where it is put, that nothing else changes, and that it is of every kind."""

import numpy as np
import pytest
import torch

from decodiff import content
from decodiff.content import KINDS, clean_cells, made_content
from decodiff.data.views import network_input
from decodiff.models.autoencoder import Autoencoder
from decodiff.models.cells import fit_components


def pictures(count=6, side=64, grey=True):
    random = np.random.default_rng(0)
    images = random.integers(60, 200, (count, side, side, 1 if grey else 3), dtype=np.uint8).repeat(3 if grey else 1, axis=3)
    return network_input(images, "per_image")


@pytest.mark.parametrize("grey", [True, False])
def test_an_image_changes_where_the_opacity_says_and_nowhere_else(grey):
    images = pictures(grey=grey)
    changed, opacity = made_content(images, 3, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and opacity.shape == (6, 1, 64, 64)
    assert 0 <= opacity.min() and opacity.max() <= 1
    moved = (changed != images).any(dim=1, keepdim=True)
    assert not (moved & (opacity == 0)).any()
    assert moved[opacity > 0.5].float().mean() > 0.9
    assert torch.equal(changed[:, 0], changed[:, 1]) == grey


def test_the_generator_decides_all_of_it_and_the_images_stay():
    images = pictures()
    before = images.clone()
    first, second = (made_content(images, 3, torch.Generator().manual_seed(7)) for _ in range(2))
    other, _ = made_content(images, 3, torch.Generator().manual_seed(8))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1]) and not torch.equal(first[0], other)
    assert torch.equal(images, before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_content_is_of_the_size_of_the_image_and_unlike_it(kind):
    image, other = pictures(2)
    made = kind(image[:1], other[:1], float(image.std()), torch.Generator().manual_seed(3))
    assert made.shape == (1, 64, 64) and torch.isfinite(made).all() and not torch.allclose(made, image[:1], atol=1e-3)


def test_contrast_scales_with_the_image():
    """So that a dark image, seen as it is, gets defects as weak as its own structure."""
    images = pictures()
    made, _ = made_content(images, 3, torch.Generator().manual_seed(0))
    fainter, _ = made_content(images / 4, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(fainter, made / 4, rtol=1e-3, atol=1e-3)


def test_regions_seek_detail(monkeypatch):
    images = torch.zeros(1, 1, 64, 64)
    images[:, :, 16:24, 40:48] = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(content, "DETAILED", 1.0)
    for seed in range(20):
        row, column = content._centres(content._detail(images), 64, torch.Generator().manual_seed(seed))[0]
        assert 16 <= row < 24 and 40 <= column < 48


def test_blur_keeps_a_constant_and_spreads_a_point_as_a_gaussian():
    point = torch.zeros(1, 33, 33)
    point[0, 16, 16] = 1
    assert torch.allclose(content._blurred(torch.ones(1, 33, 33), 3.0), torch.ones(1, 33, 33), atol=1e-6)
    blurred = content._blurred(point, 2.0)[0]
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    assert blurred[16, 18] / blurred[16, 16] == pytest.approx(np.exp(-0.5), rel=1e-3)


def test_a_cell_is_clean_if_no_pixel_of_it_changes():
    opacity = torch.zeros(1, 1, 16, 16)
    opacity[0, 0, 5, 9] = 0.3
    mask = clean_cells(opacity, (4, 4))
    assert mask.shape == (1, 1, 4, 4) and mask[0, 0, 1, 2] == 0 and mask.sum() == 15


def test_latents_of_clean_cells_do_not_change():
    """With cells encoded one by one, the made latent differs from the image's own in corrupted cells alone."""
    images = pictures()
    module = fit_components([images], 8, 32)
    coder = Autoencoder(module)
    changed, opacity = made_content(images, 3, torch.Generator().manual_seed(0))
    clean = clean_cells(opacity, (8, 8)).bool().expand(-1, 32, -1, -1)
    difference = (coder.encode(changed)[0] - coder.encode(images)[0]).abs()
    assert difference[clean].max() < 0.03 * difference[~clean].mean() + 0.05 and difference[~clean].mean() > 0.1
