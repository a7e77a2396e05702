"""Linkage disequilibrium: how alike the genotypes of two variants are, in windows and in blocks of a reference."""
