"""Releases on disk and in the registry."""
