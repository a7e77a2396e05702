"""Genotypes of many people, read block by block from PLINK, BGEN, VCF and VCF-Zarr files."""
