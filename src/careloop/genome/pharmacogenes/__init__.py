"""Genes that decide how drugs work: star alleles, diplotypes, phenotypes, and what CPIC recommends."""
