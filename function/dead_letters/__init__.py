"""Dead letters that are kept: the table ``dead_letters``, and the replay of what is in it."""
