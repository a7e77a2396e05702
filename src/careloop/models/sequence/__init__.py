"""Large models over event sequences: networks, their training, and estimators that use them as any other model."""
