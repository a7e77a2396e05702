"""A simulated chest with known organs, seen through a simulated CT scanner."""
