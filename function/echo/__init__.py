"""The echo: any event on one line of standard output, with its secrets masked."""
