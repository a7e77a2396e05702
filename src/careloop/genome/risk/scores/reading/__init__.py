"""Rows and columns of score files."""
