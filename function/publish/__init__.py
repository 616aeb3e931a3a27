"""The changes of the ledger, sent to a sink as CloudEvents once they are committed.

It reads the ledger's tables and writes its own position alone; nothing here handles an event.
"""
