"""Activations of one layer in; tuning, criteria and detectors of every family of features out."""
