"""What is wrong with single events, one kind of fault a file: how it is found, and what would mend it."""
