"""What a variant does: consequence, names by HGVS, what is known of it, evidence by ACMG/AMP."""
