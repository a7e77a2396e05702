"""The page of a file's people: where they lie, who is related, what does not fit; self-contained and escaped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.population.identity.check import SampleCheck
from careloop.genome.population.identity.kinship import PAIRS, Relatedness
from careloop.genome.population.identity.swaps import SWAPS, SampleMatches
from careloop.report.population_page import ShownComponents, ShownPeople, population_page, write_population_page
from careloop.report.population_pictures import Cloud, components_picture


def components(**changed: object) -> ShownComponents:
    draws = np.random.default_rng(0)
    columns = {f"PC{number}": draws.standard_normal(3) for number in (1, 2, 3, 4)}
    people = pl.DataFrame(
        {
            "sample_id": ["<b>A</b>", "B", "C"],
            "nearest": ["North", "South", "North"],
            "like_none": [False, False, True],
            "p_value": [0.4, 0.2, 1e-9],
            "variants": [900, 900, 800],
            "probability_North": [0.97, 0.0001, 0.6],
            "probability_South": [0.03, 0.9999, 0.4],
            "mixture_North": [0.9, 0.0, 0.5],
            "mixture_South": [0.1, 1.0, 0.5],
            **columns,
        }
    ).with_columns(**{name: pl.lit(value) for name, value in changed.items()})
    reference = pl.DataFrame(
        {"sample_id": [str(number) for number in range(40)], "group": ["North", "South"] * 20}
    ).with_columns(**{name: pl.Series(draws.standard_normal(40)) for name in columns})
    return ShownComponents(people, reference, (0.05, 0.02, 0.01, 0.005), ("700 of the panel's 900 variants",))


def check() -> SampleCheck:
    pair = ("B", "C", 1000, 0.2, 0.0, 0.49, "same person or twins")
    people = pl.DataFrame(
        {
            "sample_id": ["B", "C"],
            "verdict": ["agrees", "differs"],
            "problems": ["", "stated male, genotypes of a female"],
        }
    )
    parents = pl.DataFrame(
        [("C", "father", "B", 0.49, "refuted")], schema=["sample_id", "role", "stated", "k", "verdict"], orient="row"
    )
    relatives = Relatedness(pl.DataFrame([pair], schema=PAIRS, orient="row"), 1000, 0.1)
    return SampleCheck(people, relatives, parents, ("sex of some is not clear",))


def matches() -> SampleMatches:
    rows = [("B", "C", "swapped", "C", 0.49, -0.1, 0.99, 1000), ("C", "C", "same", "C", 0.5, 0.5, 1.0, 1000)]
    return SampleMatches(pl.DataFrame(rows, schema=SWAPS, orient="row"), np.zeros((2, 2)), None)


def test_the_page_tells_where_a_person_lies(tmp_path: Path) -> None:
    shown = ShownPeople("people.bed", components(), check(), (("old.bed", matches()),), "B", simulated=True)
    write_population_page(shown, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "B is most like South" in page
    assert "100.0 %" in page
    assert "under 0.1 %" in page
    assert "like none of the groups" in page
    assert page.count("<svg") == 2
    assert "this person" in page
    assert "principal component 1 (5.0 % of the variance)" in page
    for words in ("Not for clinical use", "Simulated data", "stated male, genotypes of a female", "is another sample"):
        assert words.lower() in page.lower()
    assert "<b>A</b>" not in page
    assert "<script" not in page
    assert "src=" not in page


def test_a_person_like_none_and_one_who_cannot_be_placed_are_said() -> None:
    assert "C is like none of the reference groups" in population_page(ShownPeople("x", components(), person="C"))
    unknown = components(probability_North=None, p_value=None, PC1=None, PC2=None, PC3=None)
    page = population_page(ShownPeople("x", unknown, person="C"))
    assert "C cannot be placed" in page
    assert "this person" not in page


def test_a_page_of_checks_alone_and_of_components_alone() -> None:
    assert "Where they lie" not in population_page(ShownPeople("x", check=check()))
    own = ShownComponents(components().people.select("sample_id", "PC1", "PC2"))
    page = population_page(ShownPeople("x", own, person="B"))
    assert page.count("<svg") == 1
    assert "Most like" not in page
    one = ShownComponents(components().people.select("sample_id", "PC1"))
    assert "<svg" not in population_page(ShownPeople("x", one))


def test_a_person_who_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="not among the file's samples"):
        population_page(ShownPeople("x", components(), person="nobody"))


def test_many_groups_and_people_keep_the_picture_small() -> None:
    draws = np.random.default_rng(1)
    clouds = [Cloud(f"group {number}", draws.standard_normal((2000, 2))) for number in range(9)]
    picture = components_picture(clouds, draws.standard_normal((20_000, 2)))
    assert picture.startswith("<svg")
    assert all(cloud.name in picture for cloud in clouds)
    assert len(picture) < 2_500_000
