"""The table of the ledger: one claim, held against one run."""

from __future__ import annotations

from universality.base.schema import Column, Table

VERDICTS = ("held", "failed", "undecided")
LEDGER = Table(
    "ledger",
    "one claim held against the tables of one run, for one value of what the claim asks about each of",
    (
        Column("claim", "string", "1", "name", "the claim's file, without .toml"),
        Column("of", "string", "1", "text", "value of the claim's `each`, such as a network; empty for a claim about all rows"),
        Column("statement", "string", "1", "text", "the claim, in words"),
        Column("prediction", "string", "1", "expression", "what was predicted of the tables"),
        Column("intervention", "string", "1", "text", "what was done to the networks; empty where they were only watched"),
        Column("measured", "float", "1", "any", "value of the expression in the prediction"),
        Column("low", "float", "1", "any", "lower end of its 95 % interval; NaN where there is none"),
        Column("high", "float", "1", "any", "upper end"),
        Column("null", "float", "1", "any", "value of the claim's null; NaN where it states none"),
        Column("excess_low", "float", "1", "any", "lower end of the 95 % interval of measured less null"),
        Column("excess_high", "float", "1", "any", "upper end"),
        Column("ceiling", "float", "1", "any", "value of the claim's ceiling; NaN where it states none"),
        Column("detectable", "float", "1", ">= 0", "smallest distance from the predicted bound that is told from it in 80 % of cases, from the interval's width; NaN without one"),
        Column("n", "int", "rows", ">= 0", "rows that the scarcest part of the expression is made of"),
        Column("n_networks", "int", "networks", ">= 0", "networks in those rows"),
        Column("over", "string", "1", "networks | rows", "what was resampled for the interval"),
        Column("rule", "string", "1", "interval | value", "whether the whole interval decides, or the value alone"),
        Column("verdict", "string", "1", "held | failed | undecided", "see universality.ledger.verdicts"),
        Column("reason", "string", "1", "text", "why it is undecided or failed; empty where it held"),
        Column("registered", "string", "1", "ISO time, UTC", "when the claim was registered; empty where it was not"),
        Column("before_run", "bool", "1", "true | false", "whether that was before the run began"),
        Column("known", "string", "1", "text", "where its author had seen an outcome before writing it; empty: nowhere"),
        Column("share_chosen_on", "float", "1", "0 to 1", "share of these networks on which the claim's rules were chosen: of them a held claim is no confirmation"),
        Column("digest", "string", "1", "SHA-256", "of the claim as it is now"),
    ),
)  # fmt: skip
