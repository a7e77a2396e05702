"""Effects of an association study shrunk towards what each variant adds beside its neighbours, as LDpred2 does."""
