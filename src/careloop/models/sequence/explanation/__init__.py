"""Which events drove a risk: integrated gradients, and what removing events does."""
