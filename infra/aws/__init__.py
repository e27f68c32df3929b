"""Stages on AWS: plans (pure), components that register them, and how their stacks are built."""
