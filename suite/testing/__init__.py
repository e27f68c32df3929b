"""For tests: `world` simulates everything the pipeline acts through, `user` runs the command line for real."""
