"""What denoisers are trained on: noise of the stated level, and targets that are right without being clean."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from careloop.imaging.restore import work
from careloop.imaging.restore.lesions import LesionRule
from careloop.imaging.restore.work import (
    ALPHAS,
    CleanTask,
    Example,
    NoisyTask,
    PairTask,
    RestorationWork,
    contrast_error,
    denoising_loss,
    oriented,
    random_patch,
)

RULE = LesionRule(diameter_px=(6.0, 16.0), contrast=(0.2, 0.3), signs="bright", shapes=("disc",))


def test_eight_ways_to_turn_a_patch_are_all_different_and_keep_its_values() -> None:
    patch = np.arange(9, dtype=np.float32).reshape(3, 3)
    turned = [oriented(patch, way) for way in range(8)]
    assert len({t.tobytes() for t in turned}) == 8
    assert all(np.array_equal(np.sort(t.ravel()), np.sort(patch.ravel())) for t in turned)


def test_patches_of_small_planes_are_mirrored_at_the_edges() -> None:
    plane = np.random.default_rng(0).random((5, 40), dtype=np.float32)
    patch = random_patch(plane, 16, np.random.default_rng(1))
    assert patch.shape == (16, 16)
    assert set(patch.ravel()) <= set(plane.ravel())


def test_noise_has_the_level_that_the_network_is_told() -> None:
    task = CleanTask([np.full((64, 64), 0.5, np.float32)], (0.02, 0.2), 64)
    for seed in range(5):
        example = task.example(0, np.random.default_rng(seed))
        told = float(example.level[0, 0])
        assert (example.level == told).all()
        assert np.std(example.noisy - example.target) == pytest.approx(told, rel=0.05)


def test_recorrupted_noises_are_independent_and_the_target_is_unbiased() -> None:
    """Pang et al. 2021: the noise of what is fed and of the target are uncorrelated, each around the clean plane."""
    rng, level = np.random.default_rng(0), 0.1
    clean = rng.random((256, 256), dtype=np.float32)
    noisy = clean + np.float32(level) * rng.standard_normal(clean.shape, dtype=np.float32)
    fed, target = [], []
    for seed in unturned_seeds(4):
        example = NoisyTask([noisy], [level], 256).example(0, np.random.default_rng(seed))
        fed.append(example.noisy - clean)
        target.append(example.target - clean)
        told = float(example.level[0, 0])
        alpha = np.sqrt((told / level) ** 2 - 1)
        assert ALPHAS[0] <= alpha <= ALPHAS[1]
        assert np.std(fed[-1]) == pytest.approx(told, rel=0.02)
        assert np.std(target[-1]) == pytest.approx(level * np.sqrt(1 + alpha**-2), rel=0.02)
    assert abs(np.corrcoef(np.ravel(fed), np.ravel(target))[0, 1]) < 0.01
    assert abs(np.mean(target)) < 1e-3


def unturned_seeds(count: int) -> list[int]:
    """Seeds for which a whole plane is not turned, so that it can be compared with the clean one."""
    plane = np.arange(4, dtype=np.float32).reshape(2, 2)
    seeds = (s for s in range(1000) if np.array_equal(random_patch(plane, 2, np.random.default_rng(s)), plane))
    return list(islice(seeds, count))


def test_pairs_stay_aligned() -> None:
    plane = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    task = PairTask([Example(plane + 1, np.stack([plane + 2, plane + 3]), plane)], 16)
    for seed in range(8):
        example = task.example(0, np.random.default_rng(seed))
        assert np.allclose(example.noisy - example.target, 1)
        assert np.allclose(example.level[0] - example.target, 2)
        assert np.allclose(example.level[1] - example.target, 3)
        assert example.fed.shape == (3, 16, 16)


def test_pairs_weigh_by_the_strength_of_their_noise_whatever_level_is_told() -> None:
    rng, plane = np.random.default_rng(0), np.zeros((64, 64), np.float32)
    drawn = rng.standard_normal(plane.shape).astype(np.float32)
    pairs = [Example(0.2 * drawn, plane, plane), Example(0.02 * drawn, plane, plane)]
    strong, weak = (PairTask(pairs, 64).example(k, rng).loss_weight for k in (0, 1))
    power = np.log(weak / strong) / np.log(0.2 / 0.02)
    assert power == pytest.approx(work.STRENGTH_POWER, rel=0.05)


def with_lesions() -> Example:
    task = CleanTask([np.random.default_rng(0).random((64, 64), dtype=np.float32)], (0.1, 0.1), 64, RULE)
    return next(e for e in (task.example(0, np.random.default_rng(s)) for s in range(50)) if e.lesions is not None)


def test_lesions_come_with_the_same_noise_and_have_their_drawn_contrasts() -> None:
    example = with_lesions()
    assert example.lesions is not None
    again = example.holding(example.lesions)
    assert np.allclose(again.noisy - again.target, example.noisy - example.target, atol=1e-6)
    assert (again.target - example.target)[example.lesions.templates[0] > 0].mean() > 0.15
    assert ((example.lesions.contrasts > 0.15) & (example.lesions.contrasts <= 0.3)).all()


@pytest.mark.parametrize("kept", [1.0, 0.7])
def test_lost_contrast_counts_by_its_square(kept: float) -> None:
    lesions = with_lesions().lesions
    assert lesions is not None
    passed = torch.from_numpy(kept * lesions.added)[None]
    expected = ((1 - kept) ** 2 * lesions.contrasts**2).mean()
    assert float(contrast_error(passed, [lesions])) == pytest.approx(expected, rel=1e-4, abs=1e-12)


class Fades(torch.nn.Module):
    """Gives back what it is fed, times a number."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part = torch.nn.Parameter(torch.tensor(part))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part * x


def test_the_contrast_term_moves_the_best_of_answers_towards_keeping_lesions(monkeypatch: pytest.MonkeyPatch) -> None:
    task = CleanTask([np.zeros((64, 64), np.float32)], (0.2, 0.2), 64, RULE)
    training = RestorationWork(task, 1, (), steps=1, batch_size=8, seed=0)
    parts, best = np.linspace(0, 1, 21), []
    for share in (0.0, 0.8):
        monkeypatch.setattr(work, "CONTRAST_SHARE", share)
        losses = [float(training.loss(Fades(part), np.zeros(8, int), seed=1)[0].detach()) for part in parts]
        best.append(parts[int(np.argmin(losses))])
    assert best[0] < best[1] < 1


class Tells(torch.nn.Module):
    """Gives back the noisy plane, and a stated expected error."""

    def __init__(self, expected: float) -> None:
        super().__init__()
        self.expected = torch.nn.Parameter(torch.tensor(expected))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1], self.expected.expand_as(x[:, :1])], 1)


def test_the_best_expected_error_is_the_mean_absolute_error() -> None:
    fed = torch.zeros(1, 2, 32, 32)
    fed[:, 1] = 0.1
    target = 0.1 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    truth = float(target.abs().mean())
    weight = torch.ones(1)
    losses = {
        e: float(denoising_loss(Tells(e)(fed), target, weight).detach()) for e in (truth * 0.9, truth, truth * 1.1)
    }
    assert min(losses, key=losses.__getitem__) == truth


def test_batches_are_the_same_for_the_same_epoch_and_follow_the_weights() -> None:
    task = CleanTask([np.zeros((8, 8), np.float32)] * 3, (0.1, 0.1), 8)
    training = RestorationWork(task, 3, (), steps=200, batch_size=8, seed=1, weight=np.array([0.0, 1.0, 3.0]))
    first, again, other = training.epoch_batches(0), training.epoch_batches(0), training.epoch_batches(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    share = np.mean(np.concatenate(first) == 2)
    assert 0.7 < share < 0.8
    assert not (np.concatenate(first) == 0).any()
    assert training.validation_loss(Tells(0.1)) is None
