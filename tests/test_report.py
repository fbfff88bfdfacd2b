"""The page holds everything it needs, and its sentences carry the tables' numbers with their nulls."""

import re

from universality import report


def test_findings_carry_shares_and_nulls(small):
    run = small.run
    sentences = report.findings(run)
    best = run.families.sort_values("n_detectors", ascending=False).iloc[0]
    text = " ".join(sentences)
    assert f"{best['n_detectors']} of {best['n_units']} units ({best['share']:.1%}" in text
    assert f"untrained twins {best['share_untrained']:.1%}" in text
    assert "rotated basis" in text
    mean = run.similarity.query("measure == 'cka_linear_debiased'")[["value", "value_untrained"]].mean()
    assert f"cka_linear_debiased {mean['value']:.2f} (untrained {mean['value_untrained']:.2f}" in text


def test_page_needs_no_other_file_and_no_network(small):
    page = (small.out / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == len(list((small.out / "figures").glob("*.png")))
    assert "Does the whole path hold together?" in page
    for table in ("families.parquet", "similarity.parquet", "correspondence.parquet"):
        assert table in page
    assert small.run.record["job_digest"] in page


def test_question_is_escaped(small, tmp_path):
    from universality.runs import Run

    record = {**small.run.record, "job": {**small.run.record["job"], "question": "<script>alert(1)</script>"}}
    page = report.render(Run(small.out, record), {})
    assert "<script>alert" not in page
