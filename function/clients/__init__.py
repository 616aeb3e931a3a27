"""The doors to the outside systems.

A client library is imported here and nowhere else, and its errors become those of :mod:`function.errors` here. Every
call has a timeout, and every answer a greatest length. Nothing here is about virtual machines or about one capability.
"""
