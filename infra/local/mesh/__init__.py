"""The mesh of the local cloud: Envoys beside services and at the doors of clusters, and who tells them what."""
