"""Principal components of cells as an autoencoder: scikit-learn as the oracle."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from decodiff.data.views import network_input, with_contrast
from decodiff.errors import InputError
from decodiff.files import read_array, writing_array
from decodiff.models.autoencoder import load_autoencoder
from decodiff.models.cells import fit_components
from decodiff.settings import ComponentAutoencoder, Image
from decodiff.stages.autoencoder import autoencoder


def smooth(count=8, side=32, seed=0):
    """Images float32 ``[n,3,S,S]`` with correlated neighbours."""
    random = torch.randn(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(random, (side, side), mode="bicubic") / 3


def cells_of(images, cell):
    return torch.nn.functional.unfold(images, cell, stride=cell).transpose(1, 2).reshape(-1, 3 * cell * cell).numpy()


def test_latents_are_whitened_principal_components():
    images = smooth()
    module = fit_components([images[:5], images[5:]], 4, 6)
    oracle = PCA(6).fit(cells_of(images, 4))
    ours = module.encode(images).latents.permute(0, 2, 3, 1).reshape(-1, 6).detach().numpy()
    theirs = oracle.transform(cells_of(images, 4)) / np.sqrt(oracle.explained_variance_)
    correlation = np.abs(np.corrcoef(ours.T, theirs.T)[:6, 6:])
    assert np.diag(correlation).min() > 0.99
    assert ours.std(axis=0) == pytest.approx(np.ones(6), abs=0.05)


def test_what_is_kept_is_decoded_and_all_of_it_is_the_image():
    images = smooth(side=16)
    whole = fit_components([images], 4, 48)
    torch.testing.assert_close(whole.decode(whole.encode(images).latents).sample, images, rtol=1e-3, atol=1e-3)
    oracle = PCA(8).fit(cells_of(images, 4))
    kept = fit_components([images], 4, 8)
    lost = (kept.decode(kept.encode(images).latents).sample - images).square().mean()
    expected = np.square(oracle.inverse_transform(oracle.transform(cells_of(images, 4))) - cells_of(images, 4)).mean()
    assert float(lost) == pytest.approx(expected, rel=0.05)


def test_the_order_of_images_and_batches_does_not_matter():
    images = smooth()
    one, other = fit_components([images], 4, 8), fit_components([images[[3]], images[[0, 1, 2, 4, 5, 6, 7]]], 4, 8)
    torch.testing.assert_close(one.encoder.weight, other.encoder.weight, rtol=1e-3, atol=1e-3)


def test_the_stage_writes_what_loads_again_with_latents_of_standard_deviation_1(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
    with writing_array(tmp_path / "prepared" / "train_images.npy", images.shape, np.uint8) as array:
        array.extend(images)
    settings = ComponentAutoencoder(source="components", downsampling=4, latent_channels=10)
    image = Image(resize=20, crop=16, contrast="per_image")
    autoencoder(settings, image, 0, [tmp_path / "prepared"], tmp_path / "autoencoder")
    coder = load_autoencoder(tmp_path / "autoencoder")
    stored = read_array(tmp_path / "prepared" / "train_images.npy", (6, 20, 20, 3))
    latent, std = coder.encode(network_input(stored[:, 2:18, 2:18], "per_image"))
    assert latent.shape == (6, 10, 4, 4) and not std.any()
    within = latent - latent.mean(dim=(2, 3), keepdim=True)
    assert float(within.square().mean().sqrt()) == pytest.approx(1, abs=0.01)


def test_contrast_per_image_forgets_brightness_and_contrast_and_nothing_else():
    images = smooth()
    seen = with_contrast(images, "per_image")
    assert seen.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert torch.equal(with_contrast(images, "as_is"), images)
    torch.testing.assert_close(with_contrast(images + 0.2, "per_image"), seen)
    correlation = torch.corrcoef(torch.stack([images[0].flatten(), seen[0].flatten()]))[0, 1]
    assert float(correlation) == pytest.approx(1)
    flat = with_contrast(torch.full((1, 3, 8, 8), 0.3), "per_image")
    assert flat.abs().max() < 1e-4, "an empty image is not raised to full contrast"


def test_more_components_than_numbers_in_a_cell_are_refused():
    with pytest.raises(ValueError, match="49 are more than the 48 numbers"):
        ComponentAutoencoder(source="components", downsampling=4, latent_channels=49)


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    from decodiff.models.autoencoder import Autoencoder, save_autoencoder

    save_autoencoder(Autoencoder(fit_components([smooth()], 4, 8)), tmp_path / "coder")
    (tmp_path / "coder" / "diffusion_pytorch_model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(InputError, match="damaged") as error:
        load_autoencoder(tmp_path / "coder")
    assert "\n" not in str(error.value)
