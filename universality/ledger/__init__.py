"""Claims, written down before a run, held against its tables: what was predicted, what was measured, and whether it held.

In come claims (TOML files with an expression over tables) and the tables of a run; out comes the table ``ledger``. `claims` reads and
registers them, `expressions` is their language, `intervals` resamples networks, `verdicts` decides.
"""
