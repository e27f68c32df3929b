"""The local target's Pulumi side: rendered resources for the program, and the provider that the engine talks to."""
