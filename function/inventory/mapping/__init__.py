"""What an object or a flat event says, as a row of the ledger, and how versions are ordered; pure."""
