"""Genome-wide association of a phenotype with genotypes, and its summary statistics."""
