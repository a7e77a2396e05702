"""What each option would do to everybody, and whether the data can say so: scores, effects, balance and overlap."""
