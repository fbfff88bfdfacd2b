"""Matched units of all networks in; cells, cliques and the index of universality out."""
