"""The doors to the outside systems, one file each: the client is imported here only, and its errors become ours."""
