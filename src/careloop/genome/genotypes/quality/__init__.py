"""How often alleles are seen, how much is missing, and which variants are good enough."""
