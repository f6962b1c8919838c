"""Made defects: masks that tell all that differs."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from decodiff.data.made_defects import KINDS, LEAST_CONTRAST, VISIBLE, made_defect, margin
from decodiff.seeds import numpy_generator


def ripples(shape, number=0, contrast=1.0):
    """A picture with detail everywhere, uint8; of one channel, or grey in three, its channels are equal."""
    random = np.random.default_rng(number)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    waves = np.sin(rows / random.uniform(1, 3)) * np.cos(columns / random.uniform(1, 3))
    grey = 128 + contrast * (50 * waves + random.normal(0, 10, shape[:2]))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None].repeat(shape[2], axis=2)


def coloured(shape, number=0):
    """The same with channels of their own."""
    return np.concatenate([ripples((*shape[:2], 1), 10 * number + channel) for channel in range(shape[2])], axis=2)


def others_like(make, shape):
    return lambda random: make((shape[0] // 2, shape[1] + 3, shape[2]), int(random.integers(1, 9)))


# ---- defects


@pytest.mark.parametrize(
    ("make", "shape"), [(coloured, (64, 64, 3)), (ripples, (96, 40, 3)), (ripples, (50, 120, 1)), (coloured, (9, 7, 3))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_holds_all_that_can_be_seen_and_nothing_differs_far_from_it(kind, make, shape):
    image = make(shape)
    visible = VISIBLE * max(image.std(), LEAST_CONTRAST)
    for number in range(6):
        random = numpy_generator(number, kind)
        made, mask = made_defect(kind, image, others_like(make, shape), random)
        assert (made.shape, made.dtype) == (image.shape, np.uint8) and mask.dtype == bool and mask.shape == shape[:2]
        change = np.abs(made.astype(int) - image).max(axis=2)
        assert (change[mask] > visible).any() and not (change[~mask] > visible).any()
        assert not change[distance_transform_edt(~mask) >= margin(min(shape[:2]))].any()
        assert not mask.all() or min(shape) < 10
        if make is ripples:
            assert (made == made[..., :1]).all(), "what is grey stays grey"


def test_defects_fall_on_an_object_on_an_empty_ground_with_the_probability_of_focus():
    image = np.full((80, 80, 3), 30, np.uint8)
    image[50:66, 10:26] = ripples((16, 16, 3))
    met = [made_defect("spot", image, None, numpy_generator(number, "focus"))[1][46:70, 6:30].any() for number in range(200)]
    assert 0.65 < np.mean(met) < 0.9, "0.7, and some that fall there by chance or reach so far"


def test_an_image_of_one_tone_has_the_kinds_that_can_be_seen_in_it():
    image = np.full((40, 40, 3), 90, np.uint8)
    visible = {kind for kind in KINDS if made_defect(kind, image, lambda _: image, numpy_generator(0, kind))}
    assert visible >= {"spot", "line", "shade"} and not visible & {"moved", "paste", "texture", "bend"}


@pytest.mark.parametrize("kind", ["paste", "spot", "missing", "bend"])
def test_strength_goes_by_the_contrast_of_the_image(kind):
    masks = []
    for contrast in (1.0, 0.5):
        image = ripples((64, 64, 3), contrast=contrast)
        masks.append(made_defect(kind, image, lambda _: ripples((64, 64, 3), 3), numpy_generator(1, kind))[1])
    assert (masks[0] & masks[1]).sum() > 0.8 * (masks[0] | masks[1]).sum()
