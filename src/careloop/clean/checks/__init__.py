"""The checks behind `check_record`: definitions, counts of a shard, a second look with constants, and judging."""
