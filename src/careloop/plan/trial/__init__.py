"""Target trials emulated from a record: strategies, clones, weights for artificial censoring, time-varying treatment."""
