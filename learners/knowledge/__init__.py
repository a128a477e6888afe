"""Knowledge that outlives a model: what was learned is kept, found again, shared, and forgotten on request."""
