"""The study: one YAML file as a typed object, and the loop from record to report that it describes."""
