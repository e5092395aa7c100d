"""Files users bring: bars, messages and recorded venue frames; the sample bars."""
