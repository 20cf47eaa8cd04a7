"""Other systems behind our own server, so that only what generates differs."""
