"""What the benchmarks of tasks share: data, baselines, training and tables."""
