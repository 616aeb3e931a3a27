"""The ledger of KubeVirt virtual machines.

``mapping`` makes rows of events, ``storage`` stores them in their order, ``reconcile`` compares them with the cluster.
Nothing here imports another capability, or a door. The words are those of docs/concepts.md.
"""
