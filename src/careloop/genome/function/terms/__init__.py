"""The Gene Ontology, what proteins are annotated with, and scores of terms that fit together."""
