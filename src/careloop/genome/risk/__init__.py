"""Polygenic scores: their weights, their values in people, and the absolute risk that they stand for."""
