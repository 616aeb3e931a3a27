"""An event's data -> a row of the ledger, and the order of versions; pure.

Nothing here does I/O or imports a client, so the same event gives the same row in the receiver, in a reconcile, in
``migrate`` and in a test. The words are those of docs/concepts.md.
"""
