"""Segmentation by models people already have: prepared, tiled, run on the CPU, assembled."""
