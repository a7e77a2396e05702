"""Files of genomes: references, reads, variants and regions, opened with clear errors."""
