"""The network: one way to get bytes from it, for known corpora and the hub."""
