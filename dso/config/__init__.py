"""Which mode runs, and the files that say so."""
