"""What a patient's genes say about a drug, by the guidelines of CPIC."""
