"""Networks: the calls others rely on, what is written and read back, and damage that is named."""

import json

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKL

from decodiff.errors import InputError
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, load_autoencoder, save_autoencoder
from decodiff.models.unet import build_unet, load_unet
from decodiff.settings import Image, PretrainedAutoencoder
from decodiff.stages.autoencoder import autoencoder as autoencoder_stage


def test_a_network_is_called_with_latent_timestep_and_category_and_starts_by_correcting_nothing():
    model = build_unet("UNet_mini", num_categories=3).eval()
    latent = torch.randn(2, 4, 16, 16)
    output = model(latent, torch.tensor([0, 9]), torch.tensor([2, 0]))
    assert output.shape == latent.shape
    assert torch.equal(output, torch.zeros_like(output))


def test_dropout_is_that_of_the_size_unless_given():
    def found(network):
        return {
            module.p for name, module in network.named_modules() if ".resnets." in name and isinstance(module, torch.nn.Dropout)
        }

    with torch.device("meta"):
        assert found(build_unet("XS", 1)) == {0.4} and found(build_unet("XS", 1, dropout=0.1)) == {0.1}


def test_the_category_reaches_the_output():
    torch.manual_seed(0)
    model = build_unet("UNet_mini", num_categories=2).eval()
    torch.nn.init.normal_(model.unet.conv_out.weight)
    latent, timestep = torch.randn(1, 4, 16, 16), torch.tensor([3])
    outputs = [model(latent, timestep, torch.tensor([category])) for category in (0, 1)]
    assert not torch.allclose(*outputs)


def test_sizes_go_by_either_name_and_an_unknown_one_is_named():
    with torch.device("meta"):
        assert build_unet("XS", 1).config == build_unet("UNet_XS", 1).config
    with pytest.raises(ValueError, match="unknown UNet size 'XXL'; choose one of UNet_XS"):
        build_unet("XXL", 1)


def test_a_network_survives_being_written_down(tmp_path):
    model = build_unet("UNet_mini", num_categories=2).eval()
    torch.nn.init.normal_(model.unet.conv_out.weight)
    model.save_pretrained(tmp_path / "unet")
    loaded = load_unet(tmp_path / "unet")
    arguments = torch.randn(1, 4, 16, 16), torch.tensor([1]), torch.tensor([1])
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    # not to the bit: kernels differ with how the weights lie in memory
    torch.testing.assert_close(model(*arguments), loaded(*arguments), rtol=1e-3, atol=1e-3)
    assert (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").is_file()


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_network_is_named(tmp_path, damage):
    build_unet("UNet_mini", num_categories=1).save_pretrained(tmp_path / "unet")
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink() if damage == "missing" else weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="unet: cannot load the network .*; remove the folder and train again") as error:
        load_unet(tmp_path / "unet")
    assert "\n" not in str(error.value)


def test_the_small_autoencoder_keeps_its_scaling_and_posterior(tmp_path):
    module = build_autoencoder(channels=8, downsampling=4, blocks=1, latent_channels=6)
    module.register_to_config(scaling_factor=2.5)
    save_autoencoder(Autoencoder(module, posterior_std=0.125), tmp_path / "autoencoder")
    loaded = load_autoencoder(tmp_path / "autoencoder")
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = loaded.encode(images)
    assert mean.shape == (2, 6, 8, 8) and loaded.latent_channels == 6
    assert torch.equal(std, torch.full_like(mean, 0.125))
    torch.testing.assert_close(mean, 2.5 * module.encode(images).latents)
    assert loaded.decode(mean).shape == images.shape


def kl_folder(path):
    """A small random ``AutoencoderKL`` with two pixels a cell, in diffusers' format."""
    torch.manual_seed(0)
    module = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    module.eval().save_pretrained(path)
    return module


def test_a_local_kl_autoencoder_gives_its_own_posterior(tmp_path):
    module = kl_folder(tmp_path / "kl")
    loaded = load_autoencoder(tmp_path / "kl")
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    mean, std = loaded.encode(images)
    posterior = module.encode(images).latent_dist
    torch.testing.assert_close(mean, posterior.mean * 0.18215)
    torch.testing.assert_close(std, posterior.std * 0.18215)
    torch.testing.assert_close(loaded.decode(mean), module.decode(posterior.mean).sample, rtol=1e-4, atol=1e-5)


def test_an_autoencoder_that_is_none_is_named(tmp_path, monkeypatch):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(InputError, match="odd/config.json: _class_name 'UNet2DModel', expected AutoencoderKL or"):
        load_autoencoder(tmp_path / "odd")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="nobody/nothing: cannot load an autoencoder"):
        load_autoencoder("nobody/nothing")


def test_a_pretrained_autoencoder_is_brought_here_and_must_divide_the_image(tmp_path):
    kl_folder(tmp_path / "kl")
    settings = PretrainedAutoencoder(source="pretrained", path=str(tmp_path / "kl"))
    assert settings.downsampling == 2
    autoencoder_stage(settings, Image(resize=16, crop=16), 0, [], tmp_path / "autoencoder")
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(
        load_autoencoder(tmp_path / "autoencoder").encode(images), load_autoencoder(tmp_path / "kl").encode(images)
    )
    tiny = build_autoencoder(channels=8, downsampling=4, blocks=1, latent_channels=4)
    save_autoencoder(Autoencoder(tiny), tmp_path / "tiny")
    settings = PretrainedAutoencoder(source="pretrained", path=str(tmp_path / "tiny"))
    with pytest.raises(InputError, match="tiny holds no AutoencoderKL"):
        autoencoder_stage(settings, Image(resize=16, crop=16), 0, [], tmp_path / "other")
