"""What a topology is, what it promises, what was seen, what follows from it: pure data and pure functions.

Standard library only, no input or output. Read `stages.model` first, then `stages.catalogue`.
"""
