"""Made content: where it is put, that nothing else changes, and that it is of every kind."""

import numpy as np
import pytest
import torch

from decodiff import content
from decodiff.content import KINDS, Box, clean_cells, made_content
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


WHOLE, PART = Box((0, 64), (0, 64)), Box((5, 30), (40, 64))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_content_is_of_the_size_of_the_box_and_unlike_the_image(kind):
    image, other = pictures(2)
    made = kind(image[:1], other[:1], PART, float(image.std()), torch.Generator().manual_seed(3))
    assert made.shape == (1, 25, 24) and torch.isfinite(made).all()
    assert not torch.allclose(made, PART.of(image[:1]), atol=1e-3)


# a grain is drawn anew for every box
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not content._noisy])
def test_content_of_a_box_is_that_of_the_whole_image_there(kind):
    image, other = pictures(2)
    whole, part = (
        kind(image[:1], other[:1], box, float(image.std()), torch.Generator().manual_seed(3)) for box in (WHOLE, PART)
    )
    torch.testing.assert_close(part, PART.of(whole), rtol=1e-5, atol=1e-4)


def test_a_box_holds_all_of_its_region(monkeypatch):
    """Drawn with the image for its box, no region has anything outside that the box left out."""
    boxes = content._box
    places = torch.rand(200, 2, generator=torch.Generator().manual_seed(1)) * 80 - 8
    for draw in (content._blob, content._stroke):
        visible = 0
        for seed, centre in enumerate(places.tolist()):
            monkeypatch.setattr(content, "_box", boxes)
            part = draw(centre, 64, torch.Generator().manual_seed(seed))
            monkeypatch.setattr(content, "_box", lambda low, high, side: WHOLE)
            _, expected = draw(centre, 64, torch.Generator().manual_seed(seed))
            opacity = torch.zeros(64, 64)
            if part:
                box, opaque = part
                assert opaque.shape == box.shape
                box.of(opacity)[:] = opaque
            torch.testing.assert_close(opacity, expected, rtol=0, atol=1e-4)
            visible += bool(expected.any())
        assert visible > 150


def test_grain_is_white_noise_blurred_to_a_standard_deviation_of_one_up_to_the_border():
    drawn = torch.stack([content._grain(PART, 64, 2.0, torch.Generator().manual_seed(seed)) for seed in range(2000)])
    std = drawn.std(dim=0)
    assert std.min() > 0.9 and std.max() < 1.1
    # two pixels on: exp(-d²/4σ²)
    assert (drawn[:, 10, 10] * drawn[:, 10, 12]).mean() == pytest.approx(np.exp(-4 / 16), abs=0.08)


def test_a_field_is_bilinear_between_its_values():
    knot = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(knot[None, None], (64, 64), mode="bilinear", align_corners=True)[0, 0]
    torch.testing.assert_close(content._field(knot, PART, 64), PART.of(expected), rtol=1e-4, atol=1e-5)


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
        row, column = content._centres(content._detail(images)[0], 64, 1, torch.Generator().manual_seed(seed))[0]
        assert 16 <= row < 24 and 40 <= column < 48


def test_blur_keeps_a_constant_and_spreads_a_point_as_a_gaussian():
    point, whole = torch.zeros(1, 33, 33), Box((0, 33), (0, 33))
    point[0, 16, 16] = 1
    assert torch.allclose(content._blurred(torch.ones(1, 33, 33), whole, 3.0), torch.ones(1, 33, 33), atol=1e-6)
    blurred = content._blurred(point, whole, 2.0)[0]
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
