"""Effects by regressions with stated terms, beside the learned ones: weighting, standardisation, hazard ratios."""
