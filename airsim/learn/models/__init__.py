"""Frozen base models that adapters are added to."""
