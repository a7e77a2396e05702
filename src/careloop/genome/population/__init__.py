"""Who the people of a genotype file are to each other: principal components, ancestry, relatives, sex, swaps."""
