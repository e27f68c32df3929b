"""The local cloud: a small daemon that runs a stage on this machine, breaks it on request and mends it again."""
