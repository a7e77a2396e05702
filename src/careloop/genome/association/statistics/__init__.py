"""How files of summary statistics are read into one table."""
