"""Loose parts in one pose: wherever and however one lies, its picture and its mask come out alike."""

import math

import numpy as np
import pytest
from pictures import GROUND, STEEL, make_mvtec, nail
from PIL import Image

from decodiff.data import pose
from decodiff.data.pose import _parted, lie_in_any_direction, placement, posed, turned, turned_mask
from decodiff.stages.fetch import fetch
from decodiff.stages.prepare import prepare


@pytest.mark.parametrize(("angle", "moved"), [(0.4, (5, -8)), (1.6, (-12, 3)), (3.0, (8, 8)), (-2.2, (0, 0)), (-0.9, (20, 10))])
def test_a_part_comes_out_alike_however_it_lies(angle, moved):
    upright, _ = nail(0, (0, 0))
    image, _ = nail(angle, moved)
    found = placement(image)
    assert abs(math.remainder(found.angle - angle, 2 * math.pi)) < 0.03
    np.testing.assert_allclose(found.centre, ((80 + moved[0]) / 160, (60 + moved[1]) / 160), atol=0.004)
    expected, result = (np.asarray(posed(picture, "long_axis")).astype(float) for picture in (upright, image))
    assert result.shape == (160, 160, 3)
    # edges are softened and may lie half a pixel aside; head to tail it would differ by much more
    assert np.abs(result - expected).mean() < 0.4 * np.abs(result[::-1, ::-1] - expected).mean()
    # the nail's length, level in the middle
    columns = np.flatnonzero((np.abs(result - GROUND).sum(axis=2) > 100).any(axis=0))
    np.testing.assert_allclose((columns[0], columns[-1]), (40, 119), atol=1.5)


@pytest.mark.parametrize("angle", [0.7, 2.5, -1.2])
def test_a_mask_lies_where_its_image_shows_the_defect(angle):
    image, mask = nail(angle, (6, -4))
    to = placement(image)
    red = np.asarray(turned(image, to)).astype(int) @ (1, -1, 0) > 95
    marked = np.asarray(turned_mask(mask, to)) > 0
    assert red.sum() > 20 and (red & marked).sum() / (red | marked).sum() > 0.75


def test_what_lies_outside_the_picture_is_its_border_and_no_defect():
    image = Image.fromarray(np.full((40, 60, 3), 7, np.uint8))
    mask = Image.new("L", image.size, 255)
    to = placement(Image.fromarray(np.pad(np.full((8, 30, 3), 255, np.uint8), [(0, 32), (0, 30), (0, 0)])))
    assert (np.asarray(turned(image, to)) == 7).all()
    assert np.asarray(turned_mask(mask, to))[0, 0] == 0


@pytest.mark.parametrize("kind", ["L", "P", "I;16", "1"])
def test_masks_keep_their_values_in_every_mode(kind):
    values = np.arange(100).reshape(10, 10) % 2
    picture = Image.fromarray(values.astype({"I;16": np.uint16, "1": bool}.get(kind, np.uint8)))
    if kind == "P":
        picture.putpalette([0, 0, 0, 90, 20, 10])
    result = turned_mask(picture, placement(Image.new("RGB", (10, 10))))
    assert result.mode == picture.mode and result.getpalette() == picture.getpalette()
    np.testing.assert_array_equal(np.asarray(result), values)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (30, 20)])
def test_a_picture_of_one_colour_is_not_turned(size):
    found = placement(Image.new("RGB", size, (3, 2, 1)))
    assert found.angle == 0 and found.centre == (size[0] / 2 / max(size), size[1] / 2 / max(size))


@pytest.mark.parametrize("size", [(2_000, 3), (1, 3_000)])
def test_a_long_thin_picture_does_not_fill_the_memory(size, monkeypatch):
    monkeypatch.setattr(pose, "MOST_SIDE", 819)
    image = Image.new("RGB", size, GROUND)
    image.paste(STEEL, (0, 0, size[0] // 2 + 1, size[1] // 2 + 1))
    side = max(posed(image, "long_axis").size)
    assert side == turned_mask(Image.new("L", size), placement(image)).size[0] == 819


def test_values_are_parted_where_the_groups_differ_most():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(3, 1, 400), rng.normal(11, 2, 150)])

    def between(threshold):
        low, high = values[values < threshold], values[values >= threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(between(value) for value in np.sort(values)[1:])
    assert between(_parted(values)) > 0.995 * best


def turned_by(angles):
    return [placement(nail(angle, (index % 5, index % 3))[0]) for index, angle in enumerate(angles)]


def test_parts_are_told_that_lie_in_any_direction():
    anyhow = turned_by(np.linspace(0, 6, 10))
    assert all(part.is_whole and 2 < part.elongation < 6 for part in anyhow)
    assert lie_in_any_direction(anyhow)
    assert not lie_in_any_direction(turned_by([0.5, 0.45, 0.55, 0.5 + math.pi, 0.48])), "one way, but for half a turn"
    assert not lie_in_any_direction([])
    discs = Image.new("RGB", (60, 60), GROUND)
    discs.paste(STEEL, (20, 20, 40, 40))
    assert not lie_in_any_direction([*anyhow, *[placement(discs)] * 2]), "not all are elongated"
    cut = [placement(nail(part.angle, (65, 0))[0]) for part in anyhow]
    assert not lie_in_any_direction(cut), "they lie beyond the border"


def test_prepared_images_and_masks_are_in_the_pose(tmp_path):
    root = make_mvtec(tmp_path / "mine")
    for index, path in enumerate(sorted(root.glob("bolt/t*/*/*.png"))):
        image, mask = nail(1.1 * index, (index, 4))
        image.save(path)
        if "bent" in str(path):
            mask.save(root / "bolt/ground_truth/bent/000_mask.png")
    fetch("mine", str(root), "folder", "all", tmp_path / "out/manifest.csv")
    prepare(tmp_path / "out/manifest.csv", 160, tmp_path / "turned", pose="long_axis")
    images = np.load(tmp_path / "turned/test_images.npy").astype(float)
    masks = np.load(tmp_path / "turned/test_masks_standard.npy")
    apart = np.abs(images[0] - images[1]).mean()
    red = images[0] @ (1, -1, 0) > 95
    assert red.sum() > 20 and (red & (masks[0] > 0)).sum() / (red | (masks[0] > 0)).sum() > 0.75
    # another pose is other arrays
    prepare(tmp_path / "out/manifest.csv", 160, tmp_path / "turned", pose="as_is")
    as_they_are = np.load(tmp_path / "turned/test_images.npy").astype(float)
    assert apart < 0.4 * np.abs(as_they_are[0] - as_they_are[1]).mean()
