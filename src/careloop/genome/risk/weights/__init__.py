"""Weights of polygenic scores made from summary statistics and the linkage of a reference panel."""
