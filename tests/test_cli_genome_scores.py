"""The commands `careloop genome score` and `careloop genome risk`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from careloop.cli.genome_scores import risk, score
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import simulate_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated genotypes of 120 people, weights, components and rates."""
    made = simulate_cohort(120, 50, seed=2)
    folder = tmp_path_factory.mktemp("scores")
    write_bed(folder / "people", made.samples, made.variants, [made.genotypes])
    alt, ref = made.variants["alt"].to_list(), made.variants["ref"].to_list()
    weights = pl.DataFrame(
        {
            "rsID": [*made.variants["variant_id"][:40], "absent"],
            "effect_allele": [*alt[:30], *ref[30:40], "A"],
            "other_allele": [*ref[:30], *alt[30:40], "C"],
            "effect_weight": [1.0] * 41,
        }
    )
    (folder / "S.txt").write_text("#pgs_id=S\n#weight_type=OR\n" + weights.write_csv(separator="\t"))
    draws = np.random.default_rng(1)
    components = {f"PC{number}": draws.normal(size=120) for number in (1, 2)}
    pl.DataFrame({"#IID": made.samples["sample_id"], **components}).write_csv(folder / "pcs.tsv", separator="\t")
    rates = "".join(f"{age},{0.001 * 1.05 ** (age - 40)},0.004\n" for age in range(40, 81))
    (folder / "rates.csv").write_text(f"age,incidence,mortality\n{rates}")
    return folder


def test_people_are_scored_and_the_overlap_is_said(folder: Path) -> None:
    out, matches = folder / "scores.tsv", folder / "matches.tsv"
    arguments = [str(folder / "people"), "--weights", str(folder / "S.txt"), "--out", str(out)]
    ran = CliRunner().invoke(score, [*arguments, "--matches", str(matches), "--json"])
    assert ran.exit_code == 0, ran.output
    shown = json.loads(ran.stdout)["scores"][0]
    assert (shown["rows"], shown["used"]) == (41, 40)
    assert shown["kinds"] == {"effect allele is alt": 30, "effect allele is ref": 10}
    assert shown["reasons"] == {"not among the genotypes": 1}
    assert "weight_type is OR" in shown["notes"][0]
    table = pl.read_csv(out, separator="\t")
    assert table.columns == ["sample_id", "S", "n_variants_S"]
    assert table.height == 120
    what_became = pl.read_csv(matches, separator="\t")
    assert what_became["reason"].drop_nulls().to_list() == ["not among the genotypes"]
    told = CliRunner().invoke(score, arguments).stdout
    assert "S: 40 of 41 variants used" in told
    assert "not used, not among the genotypes" in told
    assert "not for clinical use" in told


def test_scores_are_calibrated_shown_and_turned_into_risk(folder: Path) -> None:
    out, page = folder / "calibrated.tsv", folder / "scores.html"
    asked = ["--weights", str(folder / "S.txt"), "--out", str(out), "--pcs", str(folder / "pcs.tsv")]
    shown = ["--page", str(page), "--person", "P000003", "--simulated"]
    ran = CliRunner().invoke(score, [str(folder / "people"), *asked, "--components", "2", *shown])
    assert ran.exit_code == 0, ran.output
    table = pl.read_csv(out, separator="\t")
    assert table.columns == ["sample_id", "S", "S_z", "S_percentile", "n_variants_S"]
    assert abs(table["S_z"].mean()) < 0.05  # type: ignore[arg-type, operator]
    text = page.read_text()
    assert "Simulated data" in text
    assert "P000003" in text
    assert "40 of 41 variants" in text
    kept = folder / "calibrated.tsv.calibration.json"
    again = folder / "again.tsv"
    asked = ["--weights", str(folder / "S.txt"), "--out", str(again), "--pcs", str(folder / "pcs.tsv")]
    ran = CliRunner().invoke(score, [str(folder / "people"), *asked, "--calibration", str(kept)])
    assert ran.exit_code == 0, ran.output
    assert pl.read_csv(again, separator="\t").equals(table)
    risks, risk_page = folder / "risks.tsv", folder / "risk.html"
    asked = [str(out), "--score", "S", "--rates", str(folder / "rates.csv"), "--ratio", "1.6", "--age", "50"]
    whole = CliRunner().invoke(risk, [*asked, "--out", str(risks), "--json"])
    assert whole.exit_code == 0, whole.output
    assert json.loads(whole.stdout)["standardised"] == "S_z, calibrated by ancestry"
    assert pl.read_csv(risks, separator="\t").height == 120
    one = ["--interval", "1.4", "1.8", "--person", "P000003", "--page", str(risk_page), "--json"]
    ran = CliRunner().invoke(risk, [*asked, *one])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)["risks"][0]
    assert found["low"] <= found["risk"] <= found["high"]
    assert "Absolute risk" in risk_page.read_text()


def test_options_that_do_not_go_together_are_wrong_usage(folder: Path) -> None:
    asked = [str(folder / "people"), "--weights", str(folder / "S.txt"), "--out", str(folder / "x.tsv")]
    assert CliRunner().invoke(score, [*asked, "--reference", "ids"]).exit_code == 2
    rates = ["--rates", str(folder / "rates.csv"), "--ratio", "2", "--age", "50"]
    wrong = [str(folder / "x.tsv"), "--score", "S", *rates, "--page", "p.html"]
    assert CliRunner().invoke(risk, wrong).exit_code == 2
    nobody = CliRunner().invoke(score, [*asked, "--page", str(folder / "p.html"), "--person", "nobody"])
    assert "not among the people" in str(nobody.exception)
    assert not (folder / "p.html").exists()
