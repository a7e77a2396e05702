"""Regressions of one trait on each of many variants, beside covariates."""
