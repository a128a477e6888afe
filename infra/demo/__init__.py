"""The demo: a simulated shop with planted drift that drives the real system, a live view and a final report."""
