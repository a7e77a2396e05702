"""Genotypes times weights."""
