"""What became of a plan: its value, whether it was followed, and whether effects were as it said."""
