"""The scoring function: what experts and their mixture say of every item, and the rankings that follow."""
