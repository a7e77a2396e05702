"""Tables about people: traits and covariates by sample id."""
