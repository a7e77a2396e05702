"""Predictions watched while their outcomes arrive: by month, by tests that may be looked at daily, by their inputs."""
