"""Measures vmledger beside a bare Flask application and beside the published example's way, in one run."""
