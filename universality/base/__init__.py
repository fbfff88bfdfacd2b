"""What every room stands on: errors, frozen specifications, TOML, tables, arrays, paths, locks and memory; nothing of a network comes in."""
