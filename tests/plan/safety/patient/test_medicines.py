"""Drugs and allergens are recognised by code, name, salt, brand, class and the words of a product."""

from __future__ import annotations

import pytest

from careloop.plan.safety import read_rules


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        ("RXNORM//36567", None, ("simvastatin",)),
        ("RXNORM//999999999", "Simvastatin 20 MG Oral Tablet [Zocor]", ("simvastatin",)),
        ("RXNORM//999999999", "amlodipine 5 MG / atorvastatin 10 MG Oral Tablet", ("amlodipine", "atorvastatin")),
        ("LOCAL//metoprolol succinate 50 mg", None, ("metoprolol",)),
        ("LOCAL//penicillin v potassium 250 mg", None, ("penicillin v",)),
        ("LOCAL//allergy to penicillin", None, ("penicillin",)),
        ("LOCAL//sulfa drugs", None, ("sulfonamide antibacterial",)),
        ("LOCAL//nsaids", None, ("NSAID",)),
        ("LOCAL//paracetamol", None, ("acetaminophen",)),
        ("LOCAL//ethinyl estradiol 0.03 mg", None, ("ethinyl estradiol",)),
        ("LOCAL//losartan potassium", None, ("losartan",)),
        ("LOCAL//dextroamphetamine", None, ("amphetamine",)),
        ("LOCAL//hydroxychloroquine", None, ("hydroxychloroquine",)),
        ("LOCAL//methylergonovine", None, ("methylergonovine",)),
        ("LOCAL//oxcarbazepine", None, ("oxcarbazepine",)),
        ("LOCAL//unobtainium", None, ()),
        ("SNOMED//91936005", None, ("penicillin",)),
    ],
)
def test_recognise(code: str, words: str | None, expected: tuple[str, ...]) -> None:
    assert read_rules().formulary.recognise(code, words) == expected


def test_groups_of_a_substance() -> None:
    formulary = read_rules().formulary
    assert {"amoxicillin", "penicillin", "aminopenicillin side chain"} == formulary.groups_of("amoxicillin")
    assert formulary.groups_of("penicillin") == {"penicillin"}
    assert formulary.named("ZOCOR") == "simvastatin"
    assert formulary.named("simvastatin 20 mg") is None
