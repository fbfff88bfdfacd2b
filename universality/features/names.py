"""The names of the families, for those who only list them: the families themselves need the packages of arrays and tables."""

NAMES = ("curve", "high_low_frequency", "oriented_edge", "colour_contrast")
DEFAULT = NAMES[:1]
"""Families of a job that names none."""
