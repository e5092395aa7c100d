"""One file a process: each reads aloud from source to sink."""
