"""Pure feature kernels, one family a file. The folder is the registry: every module here is a family."""
