"""Scaling events to a webhook: Kubernetes scales a workload, and a mark appears where the team looks."""
