"""`alluvium replay`: a real log through the whole running system, kills on demand, and a report that reconciles."""
