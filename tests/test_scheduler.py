"""The scheduler's identities, and its behaviour as a diffusers scheduler."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decodiff.correction import correct
from decodiff.objectives import noise_example
from decodiff.scheduler import DeviationScheduler, build_scheduler
from decodiff.timesteps import strided_timesteps


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), timestep=st.integers(0, 9))
def test_target_leads_back_to_the_clean_latent_masked_or_not(seed, timestep):
    generator = torch.Generator().manual_seed(seed)
    latent, noise = torch.randn(2, 3, 4, 8, 8, generator=generator, dtype=torch.float64)
    mask = (torch.rand(3, 1, 8, 8, generator=generator) < 0.5).double()
    scheduler = DeviationScheduler(10)
    corrupted = scheduler.add_noise(latent, noise, mask, timestep)
    deviation = scheduler.target(latent, noise, mask, timestep)
    sigma = (1 - scheduler.alphas_cumprod[timestep]).sqrt()
    torch.testing.assert_close(corrupted - sigma * deviation, latent, rtol=0, atol=1e-12)
    torch.testing.assert_close((corrupted * mask), latent * mask, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10])
def test_a_perfect_network_corrects_perfectly(steps):
    scheduler = DeviationScheduler(10)
    scheduler.set_timesteps(steps)
    clean, start = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model(latent, timestep, category):
        return (latent - clean) / (1 - scheduler.alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)

    corrected = correct(model, start, torch.zeros(4, dtype=torch.int64), scheduler)
    torch.testing.assert_close(corrected, clean, rtol=0, atol=1e-9)


def test_blended_content_keeps_its_contrast_and_is_corrected_to_the_clean_latent():
    """A cell that holds what it held stays as it is, whatever t; else the deviation is the difference, and ``z`` comes back."""
    scheduler = DeviationScheduler(10)
    clean, content = torch.randn(2, 10, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    content[:, :, :3] = clean[:, :, :3]
    mask = (torch.rand(10, 1, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    timestep = torch.arange(10)
    noise = scheduler.blending_noise(clean, content, timestep)
    noisy, target = scheduler.add_noise(clean, noise, mask, timestep), scheduler.target(clean, noise, mask, timestep)
    torch.testing.assert_close(target, (1 - mask) * (content - clean), rtol=0, atol=1e-9)
    torch.testing.assert_close(noisy[:, :, :3], clean[:, :, :3], rtol=0, atol=1e-9)
    opacity = (1 - scheduler.alphas_cumprod).sqrt()[:, None, None, None]
    torch.testing.assert_close(noisy - opacity * target, clean, rtol=0, atol=1e-9)
    assert opacity.flatten().diff().min() > 0, "the higher t, the more opaque"


def test_a_network_that_finds_nothing_changes_nothing():
    scheduler = DeviationScheduler(10)
    scheduler.set_timesteps(5)
    latent, visited = torch.randn(2, 4, 8, 8), []
    corrected = correct(
        lambda latent, timestep, category: torch.zeros_like(latent),
        latent,
        torch.zeros(2, dtype=torch.int64),
        scheduler,
        callback=lambda step, timestep, latent, original: visited.append((step, timestep)),
    )
    assert torch.equal(corrected, latent)
    assert visited == [(0, 8), (1, 6), (2, 4), (3, 2), (4, 0)]


@pytest.mark.parametrize(("steps", "expected"), [(5, [0, 2, 4, 6, 8]), (4, [0, 3, 6, 9]), (1, [0]), (10, list(range(10)))])
def test_strides(steps, expected):
    assert strided_timesteps(10, steps) == expected


def test_training_on_ten_of_a_thousand():
    assert strided_timesteps(1000, 10) == list(range(0, 1000, 100))


@pytest.mark.parametrize("steps", [0, 6, 7, 8, 9, 11])
def test_steps_that_no_stride_gives_are_refused(steps):
    with pytest.raises(ValueError, match=f"gives {steps} of them; choose one of 1, 2, 3, 4, 5, 10"):
        DeviationScheduler(10).set_timesteps(steps)


def test_a_timestep_that_was_not_chosen_is_refused():
    scheduler = DeviationScheduler(10)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="timestep 3 is not one of"):
        scheduler.step(torch.zeros(1, 4, 2, 2), 3, torch.zeros(1, 4, 2, 2))


def test_configuration_round_trips(tmp_path):
    DeviationScheduler(num_train_timesteps=7).save_config(tmp_path)
    loaded = DeviationScheduler.from_config(DeviationScheduler.load_config(tmp_path))
    assert loaded.config.num_train_timesteps == 7
    assert torch.equal(loaded.alphas_cumprod, DeviationScheduler(7).alphas_cumprod)


@pytest.mark.parametrize("start", [2, 4, 8])
def test_standard_diffusion_with_the_true_noise_comes_back_to_the_latent(start):
    scheduler = build_scheduler("noise", 10)
    scheduler.set_timesteps(5)
    scheduler.timesteps = scheduler.timesteps[scheduler.timesteps <= start]
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(3, 4, 8, 8, generator=generator)
    noisy = scheduler.add_noise(latent, torch.randn(latent.shape, generator=generator), torch.full((3,), start))

    def knows_the_latent(noisy, timestep, _category):
        kept = scheduler.alphas_cumprod[timestep].reshape(-1, 1, 1, 1)
        return (noisy - kept.sqrt() * latent) / (1 - kept).sqrt()

    back = correct(knows_the_latent, noisy, torch.zeros(3, dtype=torch.int64), scheduler)
    torch.testing.assert_close(back, latent, rtol=0, atol=1e-4)


def test_both_objectives_are_on_one_schedule():
    expected = DeviationScheduler(10).alphas_cumprod.float()
    torch.testing.assert_close(build_scheduler("noise", 10).alphas_cumprod, expected, rtol=1e-4, atol=1e-7)
    assert isinstance(build_scheduler("deviation", 10), DeviationScheduler)


def test_an_example_of_standard_diffusion_is_the_whole_latent_noised():
    scheduler = build_scheduler("noise", 10)
    latent = torch.randn(64, 4, 8, 8)
    example = noise_example(scheduler, latent, torch.arange(0, 10, 2), torch.Generator().manual_seed(0))
    assert set(example.timestep.tolist()) == {0, 2, 4, 6, 8}
    kept = scheduler.alphas_cumprod[example.timestep].reshape(-1, 1, 1, 1)
    torch.testing.assert_close(example.noisy, kept.sqrt() * latent + (1 - kept).sqrt() * example.target)
    assert abs(example.target.std() - 1) < 0.02
