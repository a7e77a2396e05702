"""Genomes: from reads or variants to findings that enter the record as ordinary events."""
