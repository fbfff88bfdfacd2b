"""A network and stimuli in; stored, labelled activations out, each under the key of what decides its values."""
