"""Model backends, one file each; a backend loads a model file and returns class probabilities."""
