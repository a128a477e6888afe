"""Fast memory: co-visitation, popularity, recency and repeat-consumption, learned from every event in microseconds."""

from learners.fast_memory.memory import COMPONENTS, FEATURES, REASONS, START, FastMemory, FastMemoryConfig, Opinion

__all__ = ["COMPONENTS", "FEATURES", "REASONS", "START", "FastMemory", "FastMemoryConfig", "Opinion"]
