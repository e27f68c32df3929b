"""Renderers of a stage for a target, and the local cloud."""
