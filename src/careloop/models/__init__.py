"""Estimators over plain arrays: classifiers as in scikit-learn, survival models as in scikit-survival."""

from careloop.models.boosting import LightGBM
from careloop.models.build import ESTIMATORS, build, logistic_regression
from careloop.models.contributions import Contributions, contributions
from careloop.models.cox import CoxPH
from careloop.models.fully_connected import FullyConnected
from careloop.models.hazard import BoostedHazard, cumulative_incidence, survival_at
from careloop.models.hazard_network import HazardNetwork
from careloop.models.inputs import survival_target
from careloop.models.keras_model import KerasClassifier
from careloop.models.network_loop import LoopSettings, train_network

__all__ = [
    "ESTIMATORS",
    "BoostedHazard",
    "Contributions",
    "CoxPH",
    "FullyConnected",
    "HazardNetwork",
    "KerasClassifier",
    "LightGBM",
    "LoopSettings",
    "build",
    "contributions",
    "cumulative_incidence",
    "logistic_regression",
    "survival_at",
    "survival_target",
    "train_network",
]
