"""ACMG/AMP evidence flags that data can support, each with its reason, and what they would add up to."""
