"""Whether an effect can be believed: balance and overlap, negative controls, the confounder that would undo it."""
