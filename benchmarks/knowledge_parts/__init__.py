"""What `bench reuse` and `bench share` have in common: a log by market, rounds made of it, knowledge taught, tables."""
