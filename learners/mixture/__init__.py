"""The online-weighted mixture: experts' opinions multiplied, each to a power learned from every interaction."""
