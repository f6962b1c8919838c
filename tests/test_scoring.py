"""Anomaly maps: what must hold for any input (agreement with golden numbers is in test_golden)."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from decodiff.scoring import ScoringSettings, anomaly_maps


def random_pair(seed=0, side=48, cells=12):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 2, 3, side, side, generator=generator) * 2 - 1
    latents = torch.randn(2, 2, 4, cells, cells, generator=generator) * 0.1
    return images[0], images[1], latents[0], latents[1]


def test_no_deviation_no_anomaly():
    image, _, latent, _ = random_pair()
    maps = anomaly_maps(image, image, latent, latent)
    assert all(torch.equal(value, torch.zeros_like(value)) for value in vars(maps).values())


def test_maps_are_between_zero_and_one_and_fuse_as_named():
    maps = anomaly_maps(*random_pair())
    for value in vars(maps).values():
        assert value.min() >= 0 and value.max() <= 1 + 1e-6
    torch.testing.assert_close(maps.geometric, (maps.pixel * maps.latent).sqrt())
    torch.testing.assert_close(maps.arithmetic, (maps.pixel + maps.latent) / 2)


def test_against_scipy_and_scikit_image_one_by_one():
    image, corrected, latent, corrected_latent = random_pair(1)
    settings = ScoringSettings(pixel_clip=0.7, pixel_sigma=1.3, latent_clip=0.15, latent_sigma=0.8, fused_sigma=1.0)
    maps = anomaly_maps(image, corrected, latent, corrected_latent, settings)
    for index in range(2):
        pixel = (corrected[index] - image[index]).abs().numpy().max(axis=0).clip(0, 0.7) / 0.7
        pixel = gaussian_filter(pixel, 1.3)
        small = (corrected_latent[index] - latent[index]).abs().numpy().mean(axis=0).clip(0, 0.15) / 0.15
        latent_map = resize(gaussian_filter(small, 0.8), (48, 48), order=1)
        np.testing.assert_allclose(maps.pixel[index], pixel, atol=1e-5)
        np.testing.assert_allclose(maps.latent[index], latent_map, atol=1e-5)
        np.testing.assert_allclose(maps.geometric[index], gaussian_filter(np.sqrt(pixel * latent_map), 1.0), atol=1e-5)
