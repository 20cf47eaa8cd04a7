"""The server: one engine of a run directory behind several APIs, over HTTP."""
