"""The shop: nine services whose domain code is the same at every stage of decoupling.

A deployable of its own: nothing here imports the rest of the project, and nothing starts at import.
"""
