"""The authors' checkpoints and LDM's: read without executing anything, and refused by name when they do not fit."""

import argparse
import json
import os
import re
import zipfile

import pytest
import torch
from typer.testing import CliRunner

from decodiff.cli import app
from decodiff.errors import InputError
from decodiff.models.reference import load_reference, our_name, start_from
from decodiff.models.storage import States
from decodiff.models.unet import build_unet, load_unet
from decodiff.settings import Diffusion, Training
from decodiff.stages.import_reference import import_reference

INSIDE = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"} | {
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "category_embedding": "cond_stage_model.embedding",
    "unet.time_embedding.linear_1": "time_embed.0",
    "unet.time_embedding.linear_2": "time_embed.2",
    "unet.conv_in": "input_blocks.0.0",
    "unet.conv_norm_out": "out.0",
    "unet.conv_out": "out.2",
}


def their_name(name, layers):
    """What the authors' code calls one of our parameters; the inverse of `our_name`, written on its own."""
    module, _, parameter = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{parameter}"
    side, level, kind, index, rest = re.fullmatch(r"unet\.(down|up|mid)_blocks?\.(\d+\.)?(\w+)\.(\d)\.(.+)", name).groups()
    level, index = int((level or "0.")[:-1]), int(index)
    if kind == "resnets":
        part, _, parameter = rest.partition(".")
        rest = f"{INSIDE[part]}.{parameter}"
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * index}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (layers + 1)}.0.op.{parameter}"
    if kind == "upsamplers":
        return f"output_blocks.{level * (layers + 1) + layers}.2.conv.{parameter}"
    block = (
        f"input_blocks.{1 + level * (layers + 1) + index}"
        if side == "down"
        else f"output_blocks.{level * (layers + 1) + index}"
    )
    return f"{block}.{0 if kind == 'resnets' else 1}.{rest}"


def authors_state(model):
    return {their_name(name, model.config.layers): tensor for name, tensor in model.state_dict().items()}


@pytest.fixture
def model():
    """A network whose output layer is not zero."""
    torch.manual_seed(0)
    model = build_unet("nano", 3).eval()
    torch.nn.init.normal_(model.unet.conv_out.weight)
    return model


def checkpoint(path, state, **others):
    torch.save({"model": state, "args": argparse.Namespace(model_size="UNet_nano", image_size=256, **others)}, path)
    return path


def answer(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return network(torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([1, 5]), torch.tensor([0, 2]))


TRAINING = Training(unet="UNet_nano", epochs=1, batch_size=1, learning_rate=1, warmup_epochs=0)
MEMBERS = {"demo": ("weave", "ring", "grid")}


@pytest.mark.parametrize("name", ["UNet_XS", "UNet_S", "UNet_M", "UNet_L", "UNet_nano", "UNet_micro", "UNet_mini"])
def test_every_parameter_of_every_size_has_a_name_in_the_authors_code(name):
    with torch.device("meta"):
        network = build_unet(name, num_categories=15)
    layers = network.config.layers
    theirs = [their_name(ours, layers) for ours in network.state_dict()]
    assert len(set(theirs)) == len(theirs)
    assert [our_name(their, layers) for their in theirs] == list(network.state_dict())


def test_a_checkpoint_becomes_a_folder_that_answers_the_same(tmp_path, model):
    path = checkpoint(tmp_path / "weights.pt", authors_state(model), data_categories=["a", "b"])
    import_reference(path, MEMBERS, Diffusion(), TRAINING, tmp_path / "unet")
    assert torch.equal(answer(load_unet(tmp_path / "unet")), answer(model))
    record = json.loads((tmp_path / "unet" / "training.json").read_text())
    assert record["categories"] == ["demo/weave", "demo/ring", "demo/grid"]
    assert record["model"]["source"] == "reference" and len(record["model"]["sha256"]) == 64


def test_the_command_takes_categories_from_the_scope(tmp_path, model):
    path = checkpoint(tmp_path / "weights.pt", authors_state(model))
    command = [
        "import-reference",
        str(path),
        "--config",
        "config/demo.yaml",
        "--scope",
        "all",
        "--output",
        str(tmp_path / "unet"),
    ]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert torch.equal(answer(load_unet(tmp_path / "unet")), answer(model))


class Runs:
    """Unpickled, it would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["args", "model"])
def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path, model, where):
    content = {"model": authors_state(model), "args": None} | {where: Runs(tmp_path / "executed")}
    torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="evil.pt: not read: it holds posix.system, which could run code") as error:
        load_reference(tmp_path / "evil.pt", "UNet_nano", 3)
    assert "\n" not in str(error.value) and not (tmp_path / "executed").exists()
    with pytest.raises(InputError, match="evil.pt: not read"):
        start_from(tmp_path / "evil.pt", model)
    assert not (tmp_path / "executed").exists()


def test_a_state_to_resume_from_that_would_execute_code_is_refused(tmp_path):
    torch.save({"inputs": 0, "step": Runs(tmp_path / "executed")}, tmp_path / "unet-state-000000001.pt")
    with pytest.raises(InputError, match="unet-state-000000001.pt: not a state to resume from"):
        States(tmp_path / "unet", 0).load()
    assert not (tmp_path / "executed").exists()


ONE = torch.zeros(1)
FIRST, LAST, EMBEDDING = "input_blocks.0.0.weight", "out.2.bias", "cond_stage_model.embedding.weight"
ODD_TENSORS = {
    "sparse": {LAST: torch.zeros(4).to_sparse()},
    "without memory": {LAST: torch.zeros(4, device="meta")},
    "nested": {LAST: torch.nested.nested_tensor([torch.zeros(4)])},
    "complex": {LAST: torch.zeros(4, dtype=torch.complex64)},
    "boolean": {LAST: torch.zeros(4, dtype=torch.bool)},
    "no numbers": {LAST: "zeros"},
    "one number a billion times": {FIRST: ONE.expand(64, 10**6, 3, 3)},
    "as many categories": {EMBEDDING: ONE.expand(10**9, 64)},
    "without axes": {EMBEDDING: torch.tensor(1.0)},
    "a number for a name": {5: ONE},
    "a name of two lines": {"a\nb": ONE},
    "a long name": {"x" * 10_000: ONE},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_odd_tensors_are_refused_in_one_line_before_anything_is_built_of_them(tmp_path, model, kind):
    state = authors_state(model) | ODD_TENSORS[kind]
    with pytest.raises(InputError, match="weights.pt: ") as error:
        load_reference(checkpoint(tmp_path / "weights.pt", state), "UNet_nano", 3)
    assert str(error.value).isprintable() and "0, 0, 0" not in str(error.value)
    prefixed = {f"model.diffusion_model.{name}" if isinstance(name, str) else name: value for name, value in state.items()}
    torch.save({"state_dict": prefixed}, tmp_path / "ldm.ckpt")
    fresh = build_unet("nano", 3)
    before = fresh.unet.conv_out.bias.clone()
    try:
        start_from(tmp_path / "ldm.ckpt", fresh)
    except InputError as error:
        assert str(error).isprintable() and torch.equal(before, fresh.unet.conv_out.bias)


def test_names_of_a_checkpoint_are_logged_as_they_can_be_read(tmp_path, model, caplog):
    state = {f"model.diffusion_model.{name}": value for name, value in authors_state(model).items()}
    torch.save({"state_dict": state | {"model.diffusion_model.a\nerror: b\x1b[31m": ONE}}, tmp_path / "ldm.ckpt")
    start_from(tmp_path / "ldm.ckpt", build_unet("nano", 3))
    assert r"a\nerror: b\x1b[31m" in caplog.text and "\x1b" not in caplog.text


def compressed(path):
    """The same archive as `torch.save` never writes it: a few kilobytes that stand for megabytes."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def test_a_compressed_checkpoint_is_refused_unread(tmp_path, model):
    path = checkpoint(tmp_path / "bomb.pt", authors_state(model) | {"x": torch.zeros(10_000_000)})
    compressed(path)
    with pytest.raises(InputError, match="bomb.pt: not a whole PyTorch checkpoint .it holds more bytes than it has."):
        load_reference(path, "UNet_nano", 3)
    states = States(tmp_path / "unet", 0)
    states.save(1, {"x": torch.zeros(10_000_000)})
    compressed(tmp_path / "unet-state-000000001.pt")
    with pytest.raises(InputError, match="not a state to resume from .it holds more bytes than it has."):
        states.load()


@pytest.mark.parametrize("content", [[1], {"a": 1}, torch.zeros(3), "text"], ids=["list", "other", "tensor", "text"])
def test_a_state_that_is_none_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "unet-state-000000001.pt")
    with pytest.raises(InputError, match="unet-state-000000001.pt: not a state to resume from"):
        States(tmp_path / "unet", 0).load()


def faulty(state, fault):
    if fault == "unknown name":
        state["input_blocks.1.0.bogus.weight"] = torch.zeros(1)
        return "'input_blocks.1.0.bogus.weight' has no place|is not a parameter"
    if fault == "missing":
        del state["out.2.bias"]
        return "nothing given for 'unet.conv_out.bias'"
    if fault == "shape":
        state["out.2.bias"] = torch.zeros(5)
        return r"'out.2.bias' is \(5,\), expected \(4,\)"
    if fault == "categories":
        state["cond_stage_model.embedding.weight"] = torch.zeros(15, 64)
        return "trained on 15 categories, the scope has 3"
    if fault == "size":
        state["input_blocks.0.0.weight"] = torch.zeros(256, 4, 3, 3)
        return r"256 channels, that is \['UNet_L'\]; set training.unet"
    del state["cond_stage_model.embedding.weight"]
    return "not a checkpoint of the authors' network"


@pytest.mark.parametrize("fault", ["unknown name", "missing", "shape", "categories", "size", "not theirs"])
def test_what_does_not_fit_is_named(tmp_path, model, fault):
    state = authors_state(model)
    expected = faulty(state, fault)
    with pytest.raises(InputError, match=f"weights.pt: .*({expected})") as error:
        import_reference(checkpoint(tmp_path / "weights.pt", state), MEMBERS, Diffusion(), TRAINING, tmp_path / "unet")
    assert "\n" not in str(error.value) and not (tmp_path / "unet").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", [1, 2], {"weights": {}}])
def test_files_that_are_no_checkpoint(tmp_path, content):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(
        InputError, match="weights.pt: (no such|not a whole|not read|holds list|no weights under 'model'; it has)"
    ):
        load_reference(path, "UNet_nano", 3)


def test_categories_must_be_known_beforehand(tmp_path, model):
    path = checkpoint(tmp_path / "weights.pt", authors_state(model))
    with pytest.raises(InputError, match="the categories of mine are not known beforehand"):
        import_reference(path, {"mine": ()}, Diffusion(), TRAINING, tmp_path / "unet")


def test_start_values_are_taken_where_they_fit_and_the_rest_is_said(tmp_path, model, caplog):
    caplog.set_level("INFO")
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in authors_state(model).items()}
    # of another task: its context is wider, and it has parts we have not
    for name in state:
        if "attn2.to_v" in name:
            state[name] = torch.zeros(state[name].shape[0], 512)
    state["first_stage_model.decoder.conv_in.weight"] = torch.zeros(1)
    torch.save({"state_dict": state, "global_step": 7}, tmp_path / "ldm.ckpt")
    torch.manual_seed(1)
    fresh = build_unet("nano", 3)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    start_from(tmp_path / "ldm.ckpt", fresh)
    for name, tensor in fresh.state_dict().items():
        source = before if "attn2.to_v" in name else model.state_dict()
        assert torch.equal(tensor, source[name]), name
    count = sum("attn2.to_v" in name for name in before)
    assert f"start values: {len(before) - count} of {len(before)} weights" in caplog.text
    assert f"{count} weights of the checkpoint do not fit" in caplog.text
    assert f"{count} weights of the network start at random" in caplog.text


def test_start_values_of_which_none_fits_are_refused(tmp_path):
    torch.save({"state_dict": {"model.diffusion_model.out.2.weight": torch.zeros(1)}}, tmp_path / "ldm.ckpt")
    with pytest.raises(InputError, match="ldm.ckpt: no weight of it .* fits this network"):
        start_from(tmp_path / "ldm.ckpt", build_unet("nano", 3))
