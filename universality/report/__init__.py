"""A run as one self-contained HTML page for a person who did not run the job.

Findings first, each number beside its null; then figures, tables to search, and a card for every unit. The page needs no network and
no other file, and the same run gives the same bytes.
"""

from __future__ import annotations

from universality.report.page import render, write
from universality.report.sentences import Finding, Findings, findings

__all__ = ["Finding", "Findings", "findings", "render", "write"]
