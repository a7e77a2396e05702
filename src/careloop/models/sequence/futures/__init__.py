"""Simulated futures of a network that was pre-trained on next events."""
