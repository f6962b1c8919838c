"""Networks: the calls others rely on, what is written and read back, and damage that is named."""

import json
import struct

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKL

from decodiff.errors import InputError
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, load_autoencoder, save_autoencoder
from decodiff.models.names import CONFIG_FILE, WEIGHTS_FILE
from decodiff.models.storage import CHECKSUM_KEY, save_network
from decodiff.models.unet import build_unet, load_unet
from decodiff.settings import Image, PretrainedAutoencoder
from decodiff.stages.autoencoder import autoencoder as autoencoder_stage


def test_convolutions_alone_know_the_category_and_do_not_see_the_border(tmp_path):
    model = build_unet("UNet_plain", num_categories=2, latent_channels=4).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(model.unet.conv_out.weight)
    torch.nn.init.normal_(model.unet.class_embedding.weight)
    save_network(model, tmp_path)
    model = load_unet(tmp_path)
    assert not any("attention" in type(layer).__name__.lower() for layer in model.modules())
    latent, timestep = torch.randn(1, 4, 16, 16), torch.tensor([3])
    with torch.no_grad():
        one, other = (model(latent, timestep, torch.tensor([category])) for category in (0, 1))
        flat = model(torch.ones(1, 4, 16, 16), timestep, torch.tensor([0]))
    assert one.shape == latent.shape and not torch.allclose(one, other)
    # zeros around a constant would show along the border
    torch.testing.assert_close(flat, flat[:, :, :1, :1].expand_as(flat), rtol=1e-3, atol=1e-3)


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


def networks(folder):
    """A network and an autoencoder without checksums, which would refuse every change; how each is loaded."""
    (folder / "unet").mkdir()
    save_network(build_unet("UNet_nano", 2), folder / "unet")
    save_autoencoder(Autoencoder(build_autoencoder(4, 2, 1, 4)), folder / "autoencoder")
    for name in ("unet", "autoencoder"):
        change_config(folder / name, **{CHECKSUM_KEY: None})
    return [(folder / "unet", load_unet), (folder / "autoencoder", load_autoencoder)]


def change_config(folder, **changes):
    config = {**json.loads((folder / CONFIG_FILE).read_text()), **changes}
    (folder / CONFIG_FILE).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def header_of(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def altered(header, name, **changes):
    return {**header, name: {**header[name], **changes}}


LYING_WEIGHTS = {
    "a header of any length": lambda header, data, first, second: with_header(b"{}", length=2**63),
    "a header longer than the file": lambda header, data, first, second: with_header(b"{}", length=10**9),
    "a header nested deep": lambda header, data, first, second: with_header(b'{"a":' * 5000 + b"}" * 5000),
    "none": lambda header, data, first, second: with_header({}),
    "one missing": lambda header, data, first, second: without_last(header, data),
    "overlap": lambda header, data, first, second: with_header(
        altered(header, second, data_offsets=header[first]["data_offsets"]), data
    ),
    "before the data": lambda header, data, first, second: with_header(altered(header, first, data_offsets=[-1, 5]), data),
    "another type": lambda header, data, first, second: with_header(altered(header, first, dtype="I64"), data),
    "unknown type": lambda header, data, first, second: with_header(altered(header, first, dtype="X"), data),
    "a huge shape": lambda header, data, first, second: with_header(altered(header, first, shape=[2**40, 2**40]), data),
}


def without_last(header, data):
    """A whole file with one tensor less."""
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    start = header[last]["data_offsets"][0]
    return with_header({name: value for name, value in header.items() if name != last}, data[:start])


@pytest.mark.parametrize("kind", LYING_WEIGHTS)
def test_weights_that_lie_are_refused(tmp_path, kind):
    for folder, load in networks(tmp_path):
        load(folder)
        header, data = header_of(folder / WEIGHTS_FILE)
        first, second = sorted(name for name in header if name != "__metadata__")[:2]
        (folder / WEIGHTS_FILE).write_bytes(LYING_WEIGHTS[kind](header, data, first, second))
        with pytest.raises(InputError, match=f"{folder.name}: cannot load") as error:
            load(folder)
        assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("which", "changes"),
    [
        (0, {"layers": 10**7}),
        (0, {"multipliers": [1] * 10**5}),
        (0, {"num_categories": 10**12}),
        (0, {"channels": 10**8}),
        (0, {"latent_channels": 10**11}),
        (1, {"num_encoder_blocks": [10**7] * 2}),
        (1, {"encoder_block_out_channels": [10**8] * 2}),
        (1, {"latent_channels": 10**12}),
        (1, {"scaling_factor": float("nan")}),
        (1, {"posterior_std": float("inf")}),
        (1, {"act_fn": "__import__"}),
        (0, {"quantization_config": {"quant_method": "torchao", "quant_type": "__import__('os')"}}),
        (1, {"quantization_config": {"quant_method": "bitsandbytes"}}),
    ],
)
def test_a_configuration_that_speaks_of_another_network_is_refused_before_that_is_built(tmp_path, which, changes):
    folder, load = networks(tmp_path)[which]
    change_config(folder, **changes)
    with pytest.raises(InputError, match=f"{folder.name}: cannot load"):
        load(folder)


def test_nothing_but_safetensors_of_this_folder_is_read_and_no_code_of_it(tmp_path, capfd):
    """Names of code to import are not followed, pickles not opened, shards elsewhere not looked for."""
    (tmp_path / "evil.py").write_text("print('executed')")
    for folder, load in networks(tmp_path):
        kind = type(getattr(load(folder), "module", load(folder)))
        change_config(
            folder, auto_map={"AutoModel": "evil.Model"}, custom_pipeline=str(tmp_path), _name_or_path="http://127.0.0.1:9"
        )
        assert type(getattr(load(folder), "module", load(folder))) is kind
        (folder / WEIGHTS_FILE).unlink()
        torch.save(Trap(), folder / "diffusion_pytorch_model.bin")
        with pytest.raises(InputError, match="cannot load"):
            load(folder)
        index = {"metadata": {}, "weight_map": {"unet.conv_in.weight": "../../../../etc/passwd"}}
        (folder / f"{WEIGHTS_FILE}.index.json").write_text(json.dumps(index))
        with pytest.raises(InputError, match="cannot load"):
            load(folder)
    assert "executed" not in capfd.readouterr().out


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


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
