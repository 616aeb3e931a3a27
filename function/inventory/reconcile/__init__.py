"""The comparison of the ledger with the cluster's complete list, and its repair."""
