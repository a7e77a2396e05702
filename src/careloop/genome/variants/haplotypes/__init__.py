"""Variants as the chromosomes that they spell: clusters of those that interact, and the largest match of two sets."""
