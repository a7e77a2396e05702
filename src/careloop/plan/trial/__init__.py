"""Target trials emulated from a record, and the effect of treatment that changes over time."""
