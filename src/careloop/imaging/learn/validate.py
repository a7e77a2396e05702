"""How good a new model is in the cases that no weight was fitted to, found by the engine that users run."""
