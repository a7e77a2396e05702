"""Where people lie among reference groups, by principal components of a reference panel."""
