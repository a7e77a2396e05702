"""Variants as sets: one spelling for each, and two call sets compared."""
