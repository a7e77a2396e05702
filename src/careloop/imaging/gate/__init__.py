"""What is wrong with a series, found before anything is computed from it."""
