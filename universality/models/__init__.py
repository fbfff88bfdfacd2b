"""Model cards in; networks out: trained or untrained, with checked weights, hooks, receptive fields and sides of nonlinearities."""
