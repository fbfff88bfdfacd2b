"""Dictionaries: directions of a layer's activations learnt from natural images, as a basis in which the layer is seen."""
