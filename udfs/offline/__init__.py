"""The same steps over files: the batch builder, proofs and generated feature documentation."""
