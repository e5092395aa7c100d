"""One file per process, each from source to sink."""
