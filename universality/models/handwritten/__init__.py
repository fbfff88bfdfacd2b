"""Networks whose kernels are formulas: detectors written by hand, to be found in trained networks and to be put into them.

`kernels` has the formulas, `networks` the two networks of the zoo. Cards lie in ``model_zoo/handwritten``; there are no weights files.
Scales were chosen on the generators of the drawn stimuli alone (`universality.stimuli`), before a trained network was looked at.
"""
