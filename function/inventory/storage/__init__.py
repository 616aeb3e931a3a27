"""The ledger in Postgres: state, history and the counts beside them."""
