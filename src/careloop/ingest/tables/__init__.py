"""Tables in files, whatever their format: rows, cells, keys, and what becomes of them."""
