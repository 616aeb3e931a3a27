"""What people run on a laptop: an embedded Postgres, the receiver over it, and a demonstration; never in the image."""
