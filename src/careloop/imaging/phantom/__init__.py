"""A simulated chest with known organs, seen through a simulated CT scanner."""

from careloop.imaging.phantom.cases import simulate_case, write_dataset
from careloop.imaging.phantom.chest import ChestPhantom, Grid, chest_phantom
from careloop.imaging.phantom.projections import Scanner, scan
from careloop.imaging.phantom.series import write_series

__all__ = ["ChestPhantom", "Grid", "Scanner", "chest_phantom", "scan", "simulate_case", "write_dataset", "write_series"]
