"""One launcher per binary."""
