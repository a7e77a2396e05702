"""Average restoration models that began with the same weights, and write the mean as a model of its own.

    python scripts/restoration_mean.py --of shipped FOLDER FOLDER --shares 0.5 0.25 0.25 --out FOLDER

Between weights of trainings with one origin the error changes smoothly (Wortsman et al. 2022, Model soups, ICML): the
mean of a network that has the least error and of one that lets more of lesions through lies between the two in both. As
the error grows by the square from where it is least, half of the way costs about a quarter of what the whole way does.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from careloop.imaging.restore.model import RestorationModel, read_restoration, shipped, write_restoration


def mean_of(models: list[RestorationModel], shares: list[float], out: Path, note: str) -> RestorationModel:
    """The models' weights, averaged by their shares; model.json is the first one's, and says what was averaged."""
    networks = [model.build() for model in models]
    weights = [network.state_dict() for network in networks]
    mean = {name: sum(share * one[name] for share, one in zip(shares, weights, strict=True)) for name in weights[0]}
    networks[0].load_state_dict(mean)
    said = models[0].said
    parts = [
        {"share": share, "model": model.made_by}
        | {name: fact for name, fact in model.said.training.items() if fact != said.training["data"]}
        for share, model in zip(shares, models, strict=True)
    ]
    training = {"data": said.training["data"], "script": "scripts/restoration_mean.py", "mean of": parts, "note": note}
    return write_restoration(networks[0], replace(said, training=training, validation={}, version=""), out)


def main() -> None:
    """Average those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--of", nargs="+", required=True, help="folders of models, or shipped for the one against noise"
    )
    parser.add_argument("--shares", nargs="+", type=float, required=True, help="of each, adding up to 1")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", default="", help="on the models, for model.json")
    given = parser.parse_args()
    if len(given.of) != len(given.shares) or not np.isclose(sum(given.shares), 1):
        parser.error("--shares needs one number for each model, and they must add up to 1")
    models = [shipped("gaussian noise") if name == "shipped" else read_restoration(Path(name)) for name in given.of]
    if len({(model.said.degradation, model.said.features, model.said.deepest_blocks) for model in models}) > 1:
        parser.error("the models must be against the same noise and of the same size")
    print(f"{given.out}: {mean_of(models, given.shares, given.out, given.note).made_by}")


if __name__ == "__main__":
    main()
