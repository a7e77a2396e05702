"""The effect of treatment that changes over time, from courses of treatment and confounders as arrays."""
