"""How bars travel: frames decoded, grouped, encoded across the JVM, and output batched."""
