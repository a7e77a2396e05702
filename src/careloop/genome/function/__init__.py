"""Gene function: Gene Ontology terms of proteins from their sequences."""
