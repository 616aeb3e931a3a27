"""The ledger of KubeVirt virtual machines: what an event says, in which order it counts, and where it is kept."""
