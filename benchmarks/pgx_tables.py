"""Make the tables of genome/pharmacogenes from pypgx, and compare careloop's phenotypes with pypgx's own.

    python benchmarks/pgx_tables.py make TABLES        writes pgx_alleles, pgx_phenotypes, pgx_scores,
                                                       pgx_recommendations and pgx_guidelines.csv beside the code
    python benchmarks/pgx_tables.py calls TABLES FILE  writes pypgx's phenotype of a spread of diplotypes (test data)
    python benchmarks/pgx_tables.py compare TABLES     prints the agreement, gene by gene

TABLES is the folder pypgx/api/data of pypgx 0.27.0, installed in an environment of its own
(`pip install --no-deps pypgx==0.27.0`); only its CSV files are read, and its prediction rules are restated in `_peer`
(its own `predict_phenotype` gave the same for all 451 diplotypes that `calls` writes).
pypgx is MIT licensed (Copyright 2020 Seung-been "Steven" Lee). The content is CPIC's, dedicated to the public domain
(CC0 1.0); CPIC asks to be named and that users look at cpicpgx.org for what is current.

Left out on purpose: F5 and hormonal contraceptives (a guideline of the Dutch DPWG, not of CPIC), genes without a CPIC
guideline, and every drug that `pgx_published.csv` treats by hand because pypgx's text is older than the guideline
(SSRIs of 2015, not 2023), loses the activity score (CYP2C9 and DPYD intermediate metabolizers, atomoxetine) or has no
recommendation (one of two genes known before an anaesthetic).
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path

from careloop.genome.pharmacogenes import phenotypes

HOME = phenotypes.TABLES
VERSION = "pypgx 0.27.0"
GENES = (
    "ABCG2", "CACNA1S", "CFTR", "CYP2B6", "CYP2C9", "CYP2C19", "CYP2D6", "CYP3A5", "CYP4F2", "DPYD", "G6PD", "IFNL3",
    "MT-RNR1", "NUDT15", "RYR1", "SLCO1B1", "TPMT", "UGT1A1", "VKORC1",
)  # fmt: skip
# CPIC's warfarin guideline of 2017 (PMID 28198005) names genotypes, not phenotypes; pypgx has neither for these genes.
FUNCTIONS = {
    ("VKORC1", "Reference"): "-1639G", ("VKORC1", "rs9923231"): "-1639A",
    ("CYP4F2", "*1"): "Normal Function", ("CYP4F2", "*3"): "Decreased Function",
}  # fmt: skip
WARFARIN_GENOTYPES = (
    ("VKORC1", "-1639G", "-1639G", "-1639 GG"),
    ("VKORC1", "-1639A", "-1639G", "-1639 AG"),
    ("VKORC1", "-1639A", "-1639A", "-1639 AA"),
    ("CYP4F2", "Normal Function", "Normal Function", "Normal Function"),
    ("CYP4F2", "Decreased Function", "Normal Function", "Decreased Function"),
    ("CYP4F2", "Decreased Function", "Decreased Function", "Decreased Function"),
)
SMALLEST_STEP = 0.25  # of activity scores, so that pypgx's `score == 2` is 2 <= score < 2.25
TRICYCLICS = {"amitriptyline", "clomipramine", "doxepin", "imipramine", "trimipramine", "nortriptyline", "desipramine"}
STATINS = {"atorvastatin", "fluvastatin", "lovastatin", "pitavastatin", "pravastatin", "rosuvastatin", "simvastatin"}
THIOPURINES = {"azathioprine", "mercaptopurine", "thioguanine"}
PPIS = {"dexlansoprazole", "lansoprazole", "omeprazole", "pantoprazole"}
# The recommendation says: treat as usual. Whatever else it may say is information, not a reason to prefer another drug.
USUAL = re.compile(
    r"(Initiate (therapy|efavirenz|standard)( with)?( recommended| standard| starting)|Use \w+ (label|according)"
    r"|(Based on .{4,25}, p|P)rescribe desired starting dose(?!.*aware)|(Based on .{4,15}, s|S)tart with normal"
    r"|There is no need|Insufficient evidence|No recommendation|Avoid moderate and strong CYP2D6 inhibitors"
    r"|(Neither|NUDT15 pheno|TPMT pheno)|.*Weighs in favor)"
)
NEVER = re.compile(r"(Avoid (codeine|tramadol) use)")
YEARS = {
    "22378157": 2012, "24561393": 2014, "23232549": 2012, "26094938": 2015, "34032273": 2021, "23486447": 2013,
    "27997040": 2016, "26417955": 2015, "30801677": 2019, "35152405": 2022, "30447069": 2018, "29152729": 2017,
    "29392710": 2018, "32189324": 2020, "37032427": 2023, "35034351": 2022, "33387367": 2021, "36049896": 2022,
    "30499100": 2018, "31006110": 2019, "32779747": 2020, "24598717": 2014, "32770672": 2020, "28002639": 2016,
    "24096968": 2014, "25801146": 2015, "29385237": 2018, "27981572": 2016, "28198005": 2017,
}  # fmt: skip
# What the label or the guideline wants known before the first dose, for every patient or for those it names. `ask`
# only where nobody should start without it; the FDA's words as in CPIC's list of gene-drug pairs.
UNTESTED = {
    ("HLA-B*57:01", "abacavir"): "FDA label: screen for HLA-B*57:01 before starting abacavir",
    ("HLA-B*15:02", "carbamazepine"): "FDA label: test for HLA-B*15:02 first where ancestry makes it likely "
    "(across broad areas of Asia); elsewhere record that testing is not indicated",
    ("DPYD", "capecitabine"): "FDA label (testing required in CPIC's list of pairs, 2026-05) and EMA 2020: "
    "test for DPD deficiency before starting",
    ("DPYD", "fluorouracil"): "FDA label (testing required in CPIC's list of pairs, 2026-05) and EMA 2020: "
    "test for DPD deficiency before starting",
    ("TPMT", "*"): "FDA label: testing recommended before a thiopurine",
    ("NUDT15", "*"): "FDA label: testing recommended before a thiopurine",
    ("G6PD", "rasburicase"): "FDA label: testing required",
    ("G6PD", "pegloticase"): "FDA label: testing required",
    ("G6PD", "primaquine"): "FDA label: testing required",
    ("G6PD", "tafenoquine"): "FDA label: testing required",
    ("CFTR", "ivacaftor"): "FDA label: testing required",
}
Row = dict[str, str]


def make(tables: Path) -> None:
    """Write the five tables."""
    alleles, pairs = _alleles(tables), _pairs(tables)
    classes = _classes(alleles, pairs)
    _write("alleles", [{**row, "function": classes[row["gene"], row["allele"]]} for row in alleles])
    _write("phenotypes", list(_phenotypes(pairs, classes)))
    _write("scores", list(_scores(tables)))
    published = _published()
    recommendations = list(_recommendations(tables, {row["drug"] for row in published}))
    _write("recommendations", recommendations)
    _write("guidelines", list(_guidelines(tables, published + recommendations)))


def _read(tables: Path, name: str) -> list[Row]:
    with (tables / f"{name}-table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(name: str, rows: list[Row]) -> None:
    with (HOME / f"pgx_{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"pgx_{name}.csv: {len(rows)} rows")


def _alleles(tables: Path) -> list[Row]:
    """Alleles with function and activity score (empty where the gene has none or the function is uncertain)."""
    return [
        {
            "gene": row["Gene"],
            "allele": row["StarAllele"],
            "function": FUNCTIONS.get((row["Gene"], row["StarAllele"]), row["Function"]),
            "score": "" if row["ActivityScore"] == "N/A" else row["ActivityScore"],
        }
        for row in _read(tables, "allele")
        if row["Gene"] in GENES
    ]


def _pairs(tables: Path) -> dict[tuple[str, str, str], str]:
    """Phenotype by pypgx of every diplotype it lists."""
    listed = ((row["Gene"], *row["Diplotype"].split("/"), row["Phenotype"]) for row in _read(tables, "diplotype"))
    return {(gene, first, second): phenotype for gene, first, second, phenotype in listed if gene in GENES}


def _classes(alleles: list[Row], pairs: dict[tuple[str, str, str], str]) -> dict[tuple[str, str], str]:
    """Function classes fine enough that two classes decide the phenotype.

    CPIC treats some alleles of unknown function differently (of G6PD, CFTR and MT-RNR1). Such a class is split by the
    phenotypes that its alleles give, and a part is named by its first allele.
    """
    classes = {(row["gene"], row["allele"]): row["function"] for row in alleles}
    given = defaultdict(set)
    for (gene, first, second), phenotype in pairs.items():
        given[gene, first].add(phenotype)
        given[gene, second].add(phenotype)
    uncertain = {
        (gene, name)
        for (gene, *both), names in _by_classes(pairs, classes).items()
        if len(names) > 1
        for name in both
        if name == "Unknown Function"
    }
    parts: dict[tuple[str, frozenset[str]], str] = {}
    for (gene, allele), name in classes.items():
        if (gene, name) in uncertain:
            part = (gene, frozenset(given[gene, allele]))
            classes[gene, allele] = parts.setdefault(part, f"Unknown Function, as {allele}")
    return classes


def _by_classes(
    pairs: dict[tuple[str, str, str], str], classes: dict[tuple[str, str], str]
) -> dict[tuple[str, str, str], set[str]]:
    """The phenotypes that two function classes of a gene give."""
    found = defaultdict(set)
    for (gene, first, second), phenotype in pairs.items():
        if (gene, first) in classes and (gene, second) in classes:
            one, other = sorted((classes[gene, first], classes[gene, second]))
            found[gene, one, other].add(phenotype)
    return found


def _phenotypes(pairs: dict[tuple[str, str, str], str], classes: dict[tuple[str, str], str]) -> Iterator[Row]:
    found = _by_classes(pairs, classes)
    for gene, one, other, phenotype in WARFARIN_GENOTYPES:
        found[gene, one, other].add(phenotype)
    for (gene, one, other), names in sorted(found.items()):
        if len(names) > 1:
            raise SystemExit(f"{gene}: {one} with {other} gives {sorted(names)}")
        yield {"gene": gene, "function": one, "other_function": other, "phenotype": names.pop()}


def _scores(tables: Path) -> Iterator[Row]:
    for row in _read(tables, "equation"):
        numbers = [float(number) for number in re.findall(r"[\d.]+", row["Equation"])]
        if "==" in row["Equation"]:
            numbers.append(numbers[0] + SMALLEST_STEP)
        below = f"{numbers[1]:g}" if len(numbers) > 1 else ""
        yield {"gene": row["Gene"], "phenotype": row["Phenotype"], "at_least": f"{numbers[0]:g}", "below": below}


def _published() -> list[Row]:
    with (HOME / "pgx_published.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{**row, "drug": drug} for row in rows for drug in row["drugs"].split("|")]


def _recommendations(tables: Path, elsewhere: set[str]) -> Iterator[Row]:
    """Recommendations of pypgx, without empty ones and without drugs that are encoded by hand."""
    pmids = _pmids(tables)
    for row in _read(tables, "recommendation"):
        drug, genes = row["Drug"], [row["Gene1"], row["Gene2"]]
        if drug in elsewhere or row["Recommendation"] == "None" or not set(genes) - {"None"} <= set(GENES):
            continue
        results = [row[f"Phenotype{n}"].replace("None", "not tested") for n in (1, 2)]
        strength = _strength(drug, results, row["Recommendation"])
        yield {
            "drugs": drug,
            "gene": genes[0],
            "results": results[0],
            "other_gene": genes[1].replace("None", ""),
            "other_results": results[1] if genes[1] != "None" else "",
            "severity": _severity(row["Recommendation"], strength),
            "strength": strength,
            "recommendation": " ".join(row["Recommendation"].split()),
            "pmid": pmids[drug],
            "year": str(YEARS[pmids[drug]]),
            "source": VERSION,
            "checked": "no" if genes[0] == "IFNL3" else "CPIC database 1.30.0",
        }


def _severity(recommendation: str, strength: str) -> str:
    """block: strong, and against any dose of the drug; info: treat as usual; caution: all else."""
    if NEVER.match(recommendation) and strength == "Strong":
        return "block"
    return "info" if USUAL.match(recommendation) else "caution"


def _strength(drug: str, results: list[str], recommendation: str) -> str:
    """Classification of the recommendation, as in the tables of the guidelines."""
    if drug in TRICYCLICS:
        return _tricyclic_strength(drug, results)
    if drug in STATINS:
        return _statin_strength(drug, results, recommendation)
    if drug in THIOPURINES:
        middle = drug == "thioguanine" and re.search(r"50% to 80%", recommendation)
        return "Moderate" if middle else "Strong"
    if drug in PPIS:
        firm = re.search(r"Normal|Rapid|^Poor|Likely Poor", results[0]) and not results[0].startswith("Ultra")
        return "Moderate" if firm and drug != "dexlansoprazole" else "Optional"
    if drug in {"peginterferon alfa-2a", "peginterferon alfa-2b", "ribavirin"}:
        return "Unclassified"
    special = {
        ("codeine", "Intermediate Metabolizer"): "Moderate",
        ("tramadol", "Intermediate Metabolizer"): "Optional",
        ("hydrocodone", "Intermediate Metabolizer"): "Optional",
        ("hydrocodone", "Poor Metabolizer"): "Optional",
        ("tamoxifen", "Intermediate Metabolizer"): "Moderate",
    }
    if (drug, results[0]) in special:
        return special[drug, results[0]]
    if re.match(r"Insufficient|No recommendation", recommendation):
        return "No recommendation"
    moderate = {"efavirenz", "voriconazole", "ondansetron", "tropisetron"}
    abnormal = not results[0].startswith("Normal") and not (drug == "efavirenz" and USUAL.match(recommendation))
    return "Moderate" if drug == "ivacaftor" or (drug in moderate and abnormal) else "Strong"


def _tricyclic_strength(drug: str, results: list[str]) -> str:
    """Amitriptyline and nortriptyline have evidence of their own; the other tricyclics are judged by likeness."""
    two = drug not in {"nortriptyline", "desipramine"}
    by_2c19 = results[0] if two else "not tested"
    by_2d6 = results[1] if two else results[0]
    unremarkable = {"Normal Metabolizer", "not tested", "Indeterminate"}
    if by_2c19 in unremarkable and by_2d6 in unremarkable:
        return "Strong"
    if drug not in {"amitriptyline", "nortriptyline"}:
        return "Optional"
    if by_2c19 in unremarkable:
        if drug == "nortriptyline" and by_2d6.startswith("Inter"):
            return "Moderate"
        return "Moderate" if by_2d6.startswith("Inter") else "Strong"
    if by_2d6 in unremarkable:
        return {"I": "Strong", "P": "Moderate"}.get(by_2c19.removeprefix("Likely ")[0], "Optional")
    return "Optional"


def _statin_strength(drug: str, results: list[str], recommendation: str) -> str:
    if drug == "rosuvastatin":
        return _rosuvastatin_strength(*results)
    if USUAL.match(recommendation) or drug == "simvastatin":
        return "Strong"
    both = drug == "fluvastatin" and re.match(r"(Intermediate|Poor) M", results[0])
    return "Optional" if both and re.match(r"(Possible )?Decreased|Poor", results[1]) else "Moderate"


def _rosuvastatin_strength(by_abcg2: str, by_slco1b1: str) -> str:
    if by_abcg2 in {"Normal Function", "not tested"}:
        return "Moderate" if by_slco1b1 == "Poor Function" else "Strong"
    known = by_slco1b1 not in {"Indeterminate", "not tested"}
    return "Optional" if by_abcg2 == "Poor Function" and known else "Moderate"


def _pmids(tables: Path) -> dict[str, str]:
    """The newest publication of each drug's guideline."""
    return {row["Drug"]: row["PMID"].split(";")[-1] for row in _read(tables, "cpic") if row["PMID"]} | {
        "ribavirin": "24096968"
    }


def _guidelines(tables: Path, rows: list[Row]) -> Iterator[Row]:
    """One row for each drug and gene that a recommendation speaks of, and what follows where the gene is unknown."""
    listed = {(row["Gene"], row["Drug"]): row for row in _read(tables, "cpic")}
    rxnorm = {row["Drug"]: row["RxNorm"] for row in listed.values() if row["RxNorm"] != "NA"}
    found = {}
    for row in rows:
        drug = row.get("drug", row["drugs"])
        for gene in filter(None, (row["gene"], row["other_gene"])):
            found[drug, gene] = (row["pmid"], row["year"])
    for (drug, gene), (pmid, year) in sorted(found.items()):
        pair = listed.get((gene.split("*")[0], drug), {})
        reason = UNTESTED.get((gene, drug)) or UNTESTED.get((gene, "*"), "")
        label = pair.get("FDALabel", "")
        yield {
            "drug": drug,
            "gene": gene,
            "rxnorm": rxnorm.get(drug, ""),
            "level": pair.get("CPICLevel", ""),
            "untested": "ask" if reason else "info",
            "reason": reason or (f"FDA label: {label}" if label else ""),
            "pmid": pmid,
            "year": year,
        }


def _peer(tables: Path) -> Iterator[tuple[str, str, str]]:
    """(gene, diplotype, phenotype by pypgx's rules): its table, or its equations over the sum of its scores."""
    pairs = _pairs(tables)
    for (gene, first, second), phenotype in pairs.items():
        yield gene, f"{first}/{second}", phenotype
    scores = {(row["Gene"], row["StarAllele"]): row["ActivityScore"] for row in _read(tables, "allele")}
    equations = defaultdict(list)
    for row in _read(tables, "equation"):
        equations[row["Gene"]].append((row["Equation"], row["Phenotype"]))
    for gene, rules in equations.items():
        values = {name: score for (owner, name), score in scores.items() if owner == gene}
        values |= {f"{name}x{n}": f"{float(score) * n}" for name, score in _repeatable(gene, values) for n in (2, 3)}
        for first, second in combinations_with_replacement(values, 2):
            if "N/A" in (values[first], values[second]):
                yield gene, f"{first}/{second}", "Indeterminate"
                continue
            total = float(values[first]) + float(values[second])
            yield gene, f"{first}/{second}", next(name for rule, name in rules if _holds(rule, total))


def _holds(equation: str, score: float) -> bool:
    """Whether a score fulfils `0.25 <= score < 1.25`, `2.5 <= score` or `2 == score`, pypgx's three forms."""
    first, *second = (float(number) for number in re.findall(r"[\d.]+", equation))
    return score == first if "==" in equation else first <= score < (second[0] if second else float("inf"))


def _repeatable(gene: str, values: dict[str, str]) -> Iterable[tuple[str, str]]:
    common = {"*1", "*2", "*4", "*9", "*10", "*17", "*35", "*41"}
    return [(name, score) for name, score in values.items() if gene == "CYP2D6" and name in common]


def compare(tables: Path) -> None:
    """Print how many diplotypes get the phenotype that pypgx gives them."""
    total, agree, examples = defaultdict(int), defaultdict(int), {}
    for gene, diplotype, phenotype in _peer(tables):
        ours = phenotypes.genotype(gene, diplotype).phenotype
        total[gene] += 1
        agree[gene] += ours == phenotype
        if ours != phenotype:
            examples.setdefault(gene, f"{diplotype}: pypgx {phenotype}, careloop {ours}")
    print(f"{'gene':10} {'diplotypes':>10} {'agree':>8}  first difference")
    for gene in sorted(total):
        print(f"{gene:10} {total[gene]:10} {agree[gene]:8}  {examples.get(gene, '')}")
    print(f"{'all':10} {sum(total.values()):10} {sum(agree.values()):8}")


def calls(tables: Path, path: Path, every: int = 97) -> None:
    """Write every 97th diplotype of each gene, and at least four, with pypgx's phenotype."""
    by_gene = defaultdict(list)
    for gene, diplotype, phenotype in _peer(tables):
        by_gene[gene].append((gene, diplotype, phenotype))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("gene", "diplotype", "phenotype"))
        for found in by_gene.values():
            writer.writerows(found[:: min(every, max(1, len(found) // 4))])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "calls", "compare"))
    parser.add_argument("tables", type=Path)
    parser.add_argument("file", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.what == "calls":
        calls(arguments.tables, arguments.file)
    else:
        {"make": make, "compare": compare}[arguments.what](arguments.tables)


if __name__ == "__main__":
    main()
