"""The HTTP edge: what a request is, who sent it, which capability it is for, and what is answered."""
