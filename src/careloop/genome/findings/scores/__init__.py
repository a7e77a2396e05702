"""Numbers of a genome, such as scores and principal components, from tables into a record."""
