"""Genes tested by their rare variants together."""
