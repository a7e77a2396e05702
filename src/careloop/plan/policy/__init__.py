"""Who should get which option, how good such a rule is, and when no rule may be given."""
