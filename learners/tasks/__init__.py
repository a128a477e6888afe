"""Tasks over the shared text encoder: declared in a few lines, learned in rounds, each with its adapter and head."""
