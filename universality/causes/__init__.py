"""What units do in their network: they are removed, exchanged between images, and replaced by units of other networks, each beside its nulls."""
