"""A stage on Kubernetes: plain manifests from the model, and the short piece that gives them to Pulumi."""
