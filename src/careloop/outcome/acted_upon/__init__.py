"""Predictions that were acted upon, or kept from those who would act."""
