"""Simulated genomes with known truth: variants planted in a reference, and reads of them."""
