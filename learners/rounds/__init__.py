"""A round: what it learns from, its process, its training loop, and the gate that judges what comes of it."""
