"""Volumes, diameters, intensities and radiomics of labelled structures, as tables and events."""
