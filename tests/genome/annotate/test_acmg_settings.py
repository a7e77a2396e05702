"""Settings of the ACMG/AMP criteria as users write them in a file."""

import pytest

from careloop import InputError
from careloop.genome.annotate.acmg.settings import AcmgSettings, MissenseScore, read_settings

WHOLE = """
loss_of_function_genes: [BRCA1, BRCA2]
expected_above: 0.001
repeats: masked
score: {file: scores, key: REVEL, calibration: REVEL}
splice_score: [spliceai, SpliceAI]
"""


def test_settings_are_those_of_the_file(tmp_path):
    path = tmp_path / "acmg.yaml"
    path.write_text(WHOLE)
    assert read_settings(path) == AcmgSettings(
        loss_of_function_genes=frozenset({"BRCA1", "BRCA2"}),
        expected_above=0.001,
        repeats="masked",
        score=MissenseScore("scores", "REVEL", "REVEL"),
        splice_score=("spliceai", "SpliceAI"),
    )
    assert read_settings(None) == AcmgSettings()


def test_genes_may_come_from_a_list(tmp_path):
    genes, settings = tmp_path / "genes.txt", tmp_path / "acmg.yaml"
    genes.write_text("BRCA1\n\n TP53 \n")
    assert read_settings(None, genes).loss_of_function_genes == {"BRCA1", "TP53"}
    settings.write_text(WHOLE)
    with pytest.raises(InputError, match="both give genes"):
        read_settings(settings, genes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("expected: 0.1", "got expected"),
        ("expected_above: often", "expected_above: .*number"),
        ("rare_strength: strong", "rare_strength: .*supporting"),
        ("fewest_stars: 9", "0 to 4"),
        ("score: {file: f, key: k}", "calibration or both thresholds"),
        ("- rare_below", "no mapping"),
        ("rare_below: [", "not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    path = tmp_path / "acmg.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_settings(path)
