"""Who is who: relatives, stated and found sex, heterozygosity, swapped samples."""
