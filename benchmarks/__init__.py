"""One module a benchmark, started by `alluvium bench NAME`: prints a table, writes JSON."""
