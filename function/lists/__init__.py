"""Lists to take away: the virtual machines as CSV, JSON, a workbook, or an inventory for Ansible.

A list is read in one read-only transaction that sees one moment of the ledger, a portion at a time, so a list of any
length needs the same memory. What a list looks like (a layout) is decided by pure modules, and how it is written by
others.
"""
