"""The commands, a module for each: arguments, output for people and for programs, exit codes.

The work itself is done in other rooms, which return values and print nothing. Nothing here decides about the ledger.
"""
