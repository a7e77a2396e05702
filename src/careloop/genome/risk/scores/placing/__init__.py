"""Where a score's variants are among genotypes, and how their alleles fit."""
