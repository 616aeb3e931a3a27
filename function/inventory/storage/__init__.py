"""The ledger in Postgres: state, history and the counts beside them.

``store`` runs the statements of ``sql/``, ``group_commit`` lets events share a transaction, ``refusals`` counts refused
requests. Nothing here reads an event. The words are those of docs/concepts.md.
"""
