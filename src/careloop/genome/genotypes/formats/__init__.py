"""The formats that genotypes come in, one file each; `open_genotypes` chooses."""
