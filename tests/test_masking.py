"""Masks and noise: counts, alignment to patches, and where foreign patches come from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decodiff.masking import sample_mask, sample_noise, sample_patch_side


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=40)
@given(side=st.sampled_from([1, 2, 4, 8]), ratio=st.floats(0, 1), seed=st.integers(0, 1000))
def test_masks_are_whole_patches_and_never_corrupt_more_than_asked(side, ratio, seed):
    mask = sample_mask(6, 16, 16, side, ratio, generator(seed))
    assert mask.shape == (6, 1, 16, 16)
    patches = mask.reshape(6, 16 // side, side, 16 // side, side)
    assert torch.equal(patches, patches[:, :, :1, :, :1].expand_as(patches))
    positions = (16 // side) ** 2
    clean = patches[:, :, 0, :, 0].sum(dim=(1, 2))
    assert (clean >= int(positions * (1 - ratio)) - 1e-6).all()
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_the_corrupted_ratio_is_uniform():
    mask = sample_mask(4000, 16, 16, 1, 0.7, generator())
    corrupted = 1 - mask.mean(dim=(1, 2, 3))
    assert corrupted.mean() == pytest.approx(0.35, abs=0.01)
    assert corrupted.var() == pytest.approx(0.7**2 / 12, rel=0.05)
    # no cell is preferred
    assert (1 - mask).mean(dim=(0, 1)).sub(0.35).abs().max() < 0.05


def test_a_patch_side_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="side of 3 does not divide a latent of 8×8"):
        sample_mask(1, 8, 8, 3, 0.5, generator())


def test_foreign_patches_are_patches_of_the_batch():
    latent = torch.arange(4 * 2 * 8 * 8, dtype=torch.float32).reshape(4, 2, 8, 8) + 1000
    noise = sample_noise(latent, 2, 1.0, generator(3))
    foreign = noise > 500
    assert foreign.any() and not foreign.all()

    def patches(x):
        return x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(-1, 2 * 2 * 2)

    own = {tuple(patch.tolist()) for patch in patches(latent)}
    taken = [tuple(patch.tolist()) for patch in patches(noise) if (patch > 500).any()]
    assert taken and all(patch in own for patch in taken)
    assert len(set(taken)) == len(taken), "shuffled, so no patch is used twice"


def test_without_foreign_patches_the_noise_is_standard_gaussian():
    noise = sample_noise(torch.full((64, 4, 16, 16), 100.0), 4, 0.0, generator())
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)


def test_same_generator_same_masks_and_noise():
    latent = torch.randn(3, 4, 8, 8, generator=generator(1))
    assert torch.equal(sample_mask(3, 8, 8, 2, 0.7, generator(5)), sample_mask(3, 8, 8, 2, 0.7, generator(5)))
    assert torch.equal(sample_noise(latent, 2, 0.3, generator(5)), sample_noise(latent, 2, 0.3, generator(5)))


def test_patch_sides_follow_their_probabilities():
    random = generator()
    drawn = [sample_patch_side((1, 2, 4), (0.5, 0.5, 0.0), random) for _ in range(400)]
    assert 4 not in drawn and 150 < drawn.count(1) < 250
