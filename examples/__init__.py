"""Programs to copy and worked examples; a package, because some distributions install one of that name."""
