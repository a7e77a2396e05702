"""What the tests of maps accept and reject: a network that is right by construction, and everything that must fail."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from planted_squares import Detector, Planted, learn, planted, probability

from careloop import InputError
from careloop.imaging.classify.image_classifier import ImageClassifier
from careloop.imaging.explain.maps import Mapper, mapper
from careloop.imaging.explain.randomise import cascade, layers_of, randomised, rank_agreement
from careloop.imaging.explain.removal import cell_numbers, edge_maps, removal_curves
from careloop.imaging.explain.scored import Scored
from careloop.imaging.explain.validity import Validity, check_maps, shown, skill


@lru_cache(maxsize=1)
def data() -> Planted:
    torch.set_num_threads(1)
    return planted(100, 1)


@lru_cache(maxsize=1)
def learned() -> ImageClassifier:
    torch.set_num_threads(1)
    return learn(planted(640, 0), epochs=8)


def checked(network: ImageClassifier, by: Mapper) -> Validity:
    said = probability(network, data().images)
    return check_maps(Scored(network), by, data().images, probability=said, truth=data().label == 1, label=1)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_maps_of_a_network_that_is_right_are_valid(method: str) -> None:
    found = checked(Detector(), mapper(method))  # type: ignore[arg-type]
    assert found.verdict == "valid", found.text
    assert found.images == 40
    assert found.agreement is not None
    assert found.agreement.high < 0.5
    assert found.deletion is not None
    assert found.deletion.map[2] < found.deletion.random[2] - 1
    assert "new weights change the map" in found.text


def test_maps_of_a_trained_network_are_valid() -> None:
    found = checked(learned(), mapper("grad_cam"))
    assert found.verdict == "valid", found.text
    assert found.cascade is not None
    assert found.cascade.shares[-1] == 1
    assert abs(found.cascade.agreement[-1]) < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_maps_of_a_network_with_randomised_weights_are_rejected(seed: int) -> None:
    made = randomised(Scored(learned()), data().images, seed=seed)
    found = checked(made.network, mapper("grad_cam"))
    assert found.verdict == "rejected"
    assert "the model" in found.text


def test_a_map_of_edges_is_rejected_because_it_knows_nothing_of_the_model() -> None:
    found = checked(learned(), lambda _, images, __: edge_maps(images))
    assert found.verdict == "rejected"
    assert any("weights drawn anew do not change the map" in reason for reason in found.reasons)


def test_a_map_at_random_is_rejected_by_removal() -> None:
    random = np.random.default_rng(0)

    def noise(_: Scored, images: np.ndarray, __: int) -> np.ndarray:
        return random.random((len(images), *images.shape[2:])).astype(np.float32)

    found = checked(learned(), noise)
    assert found.verdict == "rejected"
    assert [reason.split()[0] for reason in found.reasons] == ["deletion", "deletion", "insertion", "insertion"]


def test_a_network_that_ignores_the_image_is_rejected() -> None:
    network = Detector()
    with torch.no_grad():
        network.last.weight.zero_()
    found = checked(network, mapper("occlusion"))
    assert "hardly depends on the image" in found.text
    assert "no more of this label than how common it is" in found.text


def test_too_few_images_give_no_verdict_but_rejection() -> None:
    few = planted(18, 2)
    said = probability(Detector(), few.images)
    found = check_maps(
        Scored(Detector()), mapper("occlusion"), few.images, probability=said, truth=few.label == 1, label=1
    )
    assert found.verdict == "rejected"
    assert "9 test images" in found.text or "8 test images" in found.text
    with pytest.raises(InputError, match="tested on images"):
        check_maps(Scored(Detector()), mapper("occlusion"), few.images, probability=said[:3], truth=said > 0, label=1)


def test_skill_is_the_part_of_the_entropy() -> None:
    truth = np.arange(1000) % 4 == 0
    assert skill(np.full(1000, 0.25), truth).value == pytest.approx(0)
    assert skill(truth * 1.0, truth).value == pytest.approx(1, abs=1e-4)
    assert skill(1 - truth * 1.0, truth).value < -1


def test_shown_are_rows_with_the_label_that_are_given_it() -> None:
    truth = np.array([True, True, True, False, True])
    assert shown(np.array([0.9, 0.6, 0.2, 0.9, 0.7]), truth).tolist() == [0, 1, 4]
    assert shown(np.array([0.1, 0.3, 0.2, 0.9, 0.05]), truth).tolist() == [1, 2]


def test_randomised_copies_leave_the_network_alone() -> None:
    network = learned()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = randomised(Scored(network), data().images, seed=1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    drawn = dict(made.network.named_parameters())
    assert all(
        not torch.equal(v, drawn[name])
        for name, v in network.named_parameters()
        if name.endswith("weight") and v.ndim > 1
    )
    assert not made.network.training
    again = randomised(Scored(network), data().images, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(made.network.parameters(), again.network.parameters(), strict=True))


def test_the_cascade_starts_at_the_head() -> None:
    network = learned()
    share, first = next(iter(cascade(Scored(network), data().images)))
    assert share == 1 / len(layers_of(network))
    changed = {
        name
        for (name, old), new in zip(network.named_parameters(), first.network.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert {name.split(".")[0] for name in changed} == {network.head_name}


def test_rank_agreement_is_spearmans() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, (2, 3, 6, 6)).astype(np.float32)
    wanted = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_agreement(a, b), wanted)
    assert rank_agreement(np.ones((1, 4, 4), np.float32), a[:1, :4, :4]).tolist() == [0]


def test_cells_cover_the_image_evenly() -> None:
    cells = cell_numbers((24, 36))
    assert np.bincount(cells.ravel()).tolist() == [6] * 144
    assert len(np.unique(cell_numbers((7, 9, 30)))) == 6**3
    assert len(np.unique(cell_numbers((5, 28)))) == 5 * 12


def test_curves_of_the_right_order_are_best() -> None:
    some = data().label == 1
    images, square = data().images[some], data().square[some].astype(np.float32)
    deletion, insertion = removal_curves(Scored(Detector()), images, square, label=1)
    for curves in (deletion, insertion):
        assert curves.area["random"].low > 0
        assert curves.area["edges"].low > 0
    opposite, _ = removal_curves(Scored(Detector()), images, -square, label=1)
    assert opposite.area["random"].high < 0
