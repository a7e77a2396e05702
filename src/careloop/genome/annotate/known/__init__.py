"""What files that a user gives (ClinVar, gnomAD, any VCF, BED or table) say of a variant, matched by its allele."""
