"""From aligned reads to genotypes with calibrated quality, and to blocks of covered reference."""
