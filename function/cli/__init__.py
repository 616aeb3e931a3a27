"""The commands, a module each: arguments, output and exit codes. The work is done elsewhere and returns values."""
