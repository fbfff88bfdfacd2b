"""A job of two pocket networks whose units are edited, for all tests of interventions."""

EDITED_JOB = """
name = "edited"
question = "Do matched units have the same role?"

[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.9"]
edited = ["features.9"]

[[models]]
id = "pocket/alexnet-focus-s1"
taps = ["features.9"]
edited = ["features.9"]

[stimuli.natural]
crops = 12
shapes = 48
diet = "focus"

[stimuli.high_low]
orientations = 8
phases = 1

[extraction]
reduction = "center"

[comparison]
families = ["high_low_frequency"]
measures = ["cka_linear_debiased"]
matching = ["hungarian"]
bootstraps = 100
permutations = 19

[nulls]
calibration_crops = 32
haar_rotations = 1
shuffles = 1

[interventions]
images = 24

[stages]
only = ["roles", "ablations", "patches"]
"""
