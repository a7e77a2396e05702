"""Polygenic scores: files of weights, matched with genotypes variant by variant, and summed up over people."""
