"""Labelled layers of two networks in; scores and matched units out, each with its nulls, its error and a verdict."""
