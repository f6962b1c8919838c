"""Agreement with numbers of the authors' implementation (float32, CPU), kept in tests/golden."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from decodiff.correction import correct
from decodiff.metrics import METRICS, evaluate
from decodiff.models.reference import from_reference
from decodiff.models.unet import DeviationUNet, build_unet
from decodiff.scheduler import DeviationScheduler
from decodiff.scoring import ScoringSettings, anomaly_maps

GOLDEN = Path(__file__).parent / "golden"


def arrays(name):
    with np.load(GOLDEN / f"{name}.npz") as data:
        return {key: torch.from_numpy(value) for key, value in data.items()}


@pytest.mark.parametrize("steps", [10, 5, 4, 3, 2])
def test_schedule(steps):
    expected = json.loads((GOLDEN / "schedule.json").read_text())[str(steps)]
    scheduler = DeviationScheduler(num_train_timesteps=10)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.flip(0)
    assert timesteps.tolist() == expected["timesteps"]
    alphas_cumprod = scheduler.alphas_cumprod[timesteps]
    np.testing.assert_allclose(alphas_cumprod, expected["alphas_cumprod"], rtol=0, atol=1e-6)
    np.testing.assert_allclose((1 - alphas_cumprod).sqrt(), expected["sqrt_one_minus_alphas_cumprod"], rtol=0, atol=1e-6)


def test_masked_forward_process_and_target():
    golden = arrays("forward")
    arguments = golden["x"], golden["noise"], golden["mask"], golden["t"]
    scheduler = DeviationScheduler(num_train_timesteps=10)
    torch.testing.assert_close(scheduler.add_noise(*arguments), golden["x_t"], rtol=0, atol=1e-6)
    torch.testing.assert_close(scheduler.target(*arguments), golden["target"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 5, 2])
def test_correction(steps):
    golden = arrays("correction")
    scheduler = DeviationScheduler(num_train_timesteps=10)
    scheduler.set_timesteps(steps)

    def model(latent, timestep, category):
        return 0.3 * latent + 0.01 * timestep.view(-1, 1, 1, 1)

    corrected = correct(model, golden["z"], torch.zeros(len(golden["z"]), dtype=torch.int64), scheduler)
    torch.testing.assert_close(corrected, golden[f"corrected_{steps}"], rtol=0, atol=1e-5)


def test_anomaly_maps():
    golden = arrays("anomaly_maps")
    maps = anomaly_maps(
        golden["image"], golden["reconstruction"], golden["latent"], golden["corrected_latent"], ScoringSettings()
    )
    for name, key in (("pixel", "pixel"), ("latent", "latent_map"), ("geometric", "geometric"), ("arithmetic", "arithmetic")):
        torch.testing.assert_close(getattr(maps, name), golden[key], rtol=0, atol=1e-4, msg=name)


def test_metrics():
    golden = arrays("metrics")
    expected = json.loads((GOLDEN / "metrics.json").read_text())
    expected["pixel_aupro"] = expected.pop("pixel_aupro_200_thresholds_as_reference")
    measured = evaluate(golden["anomaly_map"], golden["mask"], protocol="reference")
    assert {name: measured[name] for name in METRICS} == pytest.approx(expected, abs=1e-6)


def golden_unet():
    """The small network of tests/golden with weights from their recipe, brought to our names."""
    description = json.loads((GOLDEN / "unet_state_dict.json").read_text())
    state = {}
    for number, name in enumerate(sorted(description["shapes"])):
        shape = description["shapes"][name]
        values = np.random.default_rng(1000 + number).standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            values = (1.0 if name.endswith("weight") else 0.0) + np.float32(0.05) * values
        else:
            values = values / np.sqrt(np.prod(shape[1:])).astype(np.float32)
        state[name] = torch.from_numpy(values.astype(np.float32))
    config = description["config"]
    model = DeviationUNet(
        config["num_classes"],
        channels=config["model_channels"],
        heads=config["num_heads"],
        context=config["context_dim"],
        multipliers=tuple(config["channel_mult"]),
        layers=config["num_res_blocks"],
        dropout=config["dropout"],
    )
    model.load_state_dict(from_reference(state, model))
    assert sum(parameter.numel() for parameter in model.parameters()) == description["parameters"]
    return model.eval(), state


def test_unet_output_and_correction_with_the_authors_names():
    golden = arrays("unet")
    model, _ = golden_unet()
    with torch.no_grad():
        output = model(golden["latent"], golden["timestep"], golden["class_index"])
    torch.testing.assert_close(output, golden["output"], rtol=0, atol=1e-4)
    scheduler = DeviationScheduler(num_train_timesteps=10)
    scheduler.set_timesteps(5)
    corrected = correct(model, golden["latent"], golden["class_index"], scheduler)
    torch.testing.assert_close(corrected, golden["corrected_5"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("fault", ["unknown", "missing", "shape"])
def test_weights_that_do_not_fit_are_named(fault):
    model, state = golden_unet()
    if fault == "unknown":
        state["input_blocks.1.0.bogus.weight"] = torch.zeros(1)
    elif fault == "missing":
        del state["out.2.bias"]
    else:
        state["out.2.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match="bogus|conv_out.bias|out.2.bias"):
        from_reference(state, model)


@pytest.mark.parametrize("name", ["UNet_XS", "UNet_S", "UNet_M", "UNet_L"])
def test_parameter_counts(name):
    expected = json.loads((GOLDEN / "unet_sizes.json").read_text())[name]
    with torch.device("meta"):
        model = build_unet(name, num_categories=15)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected["parameters"]
