"""The commands of who people are to each other: components and ancestry, and checks of sex, relatives and swaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import NOT_CLINICAL, genome, sample_file_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from careloop.genome.genotypes.source import GenotypeSource
    from careloop.genome.population.ancestry.panel import Panel
    from careloop.genome.population.identity.check import SampleCheck
    from careloop.genome.population.identity.swaps import SampleMatches
    from careloop.report.population_page import ShownComponents

    Progress = Callable[[str, int, int], None]


@genome.command()
@click.argument("genotypes", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="Folder for the tables and the page.")
@click.option("--reference", type=FOLDER, metavar="GENOTYPES", help="Genotypes of a reference panel, with --groups.")
@click.option("--groups", type=FOLDER, metavar="TABLE", help="Whose group is which: columns sample_id and group.")
@click.option("--panel", "panel_path", type=FOLDER, metavar="DIR", help="A panel that --save-panel wrote.")
@click.option("--save-panel", type=FOLDER, metavar="DIR", help="Keep the panel; it has nobody's genotypes.")
@click.option("--components", type=click.IntRange(1), default=10, show_default=True)
@sample_file_option
@click.option("--person", metavar="ID", help="Whose place the page marks.")
@click.option("--simulated", is_flag=True, help="Say on the page that the data are simulated.")
@json_option
def ancestry(
    genotypes: Path,
    out: Path,
    reference: Path | None,
    groups: Path | None,
    panel_path: Path | None,
    save_panel: Path | None,
    components: int,
    sample_file: Path | None,
    person: str | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Principal components of the people in GENOTYPES, and which groups of a reference panel they are like.

    With --reference and --groups, or --panel, people are projected on the panel's components, and ancestry.tsv says
    which group is nearest, how likely each is, and who is like none. Without, components are the file's own.
    components.tsv has a column a component, for `associate`, `score --pcs` and `record --kind pc`.
    """
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.report.population_page import ShownPeople, write_population_page

    if (reference is None) != (groups is None) or (reference is not None and panel_path is not None):
        raise click.UsageError("give --reference with --groups, or --panel, or none of them")
    source = open_genotypes(genotypes, sample_file=sample_file)
    with counter() as progress:
        panel = _panel(source, (reference, groups), panel_path, components, progress)
        shown, lines = _placed(source, panel, progress) if panel else _own(source, components, progress)
    if save_panel is not None and panel is not None:
        from careloop.genome.population.ancestry.panel_files import write_panel

        write_panel(panel, save_panel)
    _write_components(shown, out, placed=panel is not None)
    page = ShownPeople(genotypes.name, components=shown, person=person, simulated=simulated)
    write_population_page(page, out / "page.html")
    content = {"out": str(out), "people": shown.people.height, "share": [float(one) for one in shown.share]}
    content |= {"notes": list(shown.notes), "not_for_clinical_use": True}
    if panel is not None:
        near = shown.people.filter(~shown.people["like_none"])["nearest"].value_counts(sort=True)
        content |= {"nearest": dict(near.iter_rows()), "like_none": int(shown.people["like_none"].sum())}
    show(content, "\n".join([*lines, *shown.notes, f"Wrote {out}", NOT_CLINICAL]), as_json=as_json)


def _panel(
    source: GenotypeSource,
    made_of: tuple[Path | None, Path | None],
    folder: Path | None,
    count: int,
    progress: Progress,
) -> Panel | None:
    """The panel that is kept in a folder, or made of a reference's variants that the file has too; None for neither."""
    if folder is not None:
        from careloop.genome.population.ancestry.panel_files import read_panel

        return read_panel(folder)
    reference, groups = made_of
    if reference is None or groups is None:
        return None
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.population.ancestry.panel import make_panel, read_groups
    from careloop.genome.population.shared_variants import shared_variants

    opened = open_genotypes(reference)
    shared = shared_variants(opened.variants, source.variants, builds=(opened.build, source.build))
    return make_panel(opened, read_groups(groups), count=count, variants=shared.first, progress=progress)


def _placed(source: GenotypeSource, panel: Panel, progress: Progress) -> tuple[ShownComponents, list[str]]:
    from careloop.genome.population.ancestry.place import place
    from careloop.report.population_page import ShownComponents

    placement = place(source, panel, progress=progress)
    notes = (*placement.notes, *(f"panel: {count:,} {reason}" for reason, count in panel.left_out.items()))
    near = placement.table.filter(~placement.table["like_none"])["nearest"].value_counts(sort=True)
    lines = [f"{name:<24} {count:>8,} people" for name, count in near.iter_rows()]
    return ShownComponents(placement.table, panel.people, tuple(panel.share), notes), lines


def _own(source: GenotypeSource, count: int, progress: Progress) -> tuple[ShownComponents, list[str]]:
    from careloop.genome.population.choice import variants_for_components
    from careloop.genome.population.components import principal_components
    from careloop.report.population_page import ShownComponents

    chosen = variants_for_components(source, progress=progress)
    made = principal_components(source, count=count, variants=chosen.rows, progress=progress)
    notes = (f"{chosen.rows.size:,} variants", *(f"{n:,} left out: {reason}" for reason, n in chosen.left_out.items()))
    lines = [
        f"PC{number + 1:<4} eigenvalue {value:>10.4f}   {100 * share:.2f} % of the variance"
        for number, (value, share) in enumerate(zip(made.eigenvalues, made.share, strict=True))
    ]
    return ShownComponents(made.table(), None, tuple(made.share), notes), lines


def _write_components(shown: ShownComponents, out: Path, *, placed: bool) -> None:
    numbers = [name for name in shown.people.columns if name.startswith("PC") and name[2:].isdigit()]
    _write(shown.people.select("sample_id", *numbers), out / "components.tsv")
    if placed:
        _write(shown.people.drop(numbers), out / "ancestry.tsv")


def _write(table: pl.DataFrame, path: Path) -> None:
    from careloop.record.whole_file import whole_file

    with whole_file(path) as draft:
        table.write_csv(draft, separator="\t")


@genome.command("check")
@click.argument("genotypes", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="Folder for the tables and the page.")
@click.option("--against", type=FOLDER, metavar="GENOTYPES", help="Another file of the same people: swaps are noticed.")
@click.option("--known", type=FOLDER, metavar="TSV", help="Known genotypes: columns sample_id, variant_id, copies.")
@click.option("--record", "record_path", type=FOLDER, metavar="DIR", help="Known genotypes are a record's dosages.")
@click.option("--samples", type=FOLDER, metavar="CSV", help="Whose each sample is: columns sample, subject.")
@click.option("--min-kinship", type=float, default=0.0442, show_default=True, help="Of pairs that are listed.")
@click.option("--max-missing", type=float, default=0.05, show_default=True, help="Share of a person's genotypes.")
@sample_file_option
@click.option("--simulated", is_flag=True, help="Say on the page that the data are simulated.")
@json_option
def check_command(
    genotypes: Path,
    out: Path,
    against: Path | None,
    known: Path | None,
    record_path: Path | None,
    samples: Path | None,
    min_kinship: float,
    max_missing: float,
    sample_file: Path | None,
    simulated: bool,
    as_json: bool,
) -> None:
    """Check the people of GENOTYPES: gaps, heterozygosity, stated sex, relatives, stated parents, swapped samples.

    Tables people.tsv, relatives.tsv, parents.tsv and, with --against, --known or --record, matches.tsv.
    """
    from careloop.genome.genotypes.open_genotypes import open_genotypes
    from careloop.genome.population.identity.check import CheckOptions, check_samples
    from careloop.report.population_page import ShownPeople, write_population_page

    options = CheckOptions(max_missing=max_missing, min_kinship=min_kinship)
    source = open_genotypes(genotypes, sample_file=sample_file)
    with counter() as progress:
        checked = check_samples(source, options, progress=progress)
        matches = _matched(source, (against, known, record_path, samples), progress)
    _write(checked.people, out / "people.tsv")
    _write(checked.parents, out / "parents.tsv")
    if checked.relatives is not None:
        _write(checked.relatives.pairs, out / "relatives.tsv")
    if matches:
        _write(_joined(matches), out / "matches.tsv")
    page = ShownPeople(genotypes.name, check=checked, matches=tuple(matches), simulated=simulated)
    write_population_page(page, out / "page.html")
    show(_checked_content(checked, matches, out), _checked_text(checked, matches, out), as_json=as_json)


def _matched(
    source: GenotypeSource, others: tuple[Path | None, Path | None, Path | None, Path | None], progress: Progress
) -> list[tuple[str, SampleMatches]]:
    """What the samples are beside another file, beside known genotypes, and beside a record's."""
    from careloop.genome.population.identity.swaps import match_known, match_samples, read_known

    against, known, record_path, samples = others
    found = []
    if against is not None:
        from careloop.genome.genotypes.open_genotypes import open_genotypes

        found.append((against.name, match_samples(open_genotypes(against), source, progress=progress)))
    if known is not None:
        found.append((known.name, match_known(source, read_known(known))))
    if record_path is not None:
        from careloop.genome.findings.scores.recorded_genotypes import recorded_genotypes
        from careloop.genome.findings.scores.score_events import SampleSubjects
        from careloop.ingest.links import read_links

        links = SampleSubjects(read_links(samples))
        found.append((record_path.name, match_known(source, recorded_genotypes(record_path, source, subjects=links))))
    return found


def _joined(matches: list[tuple[str, SampleMatches]]) -> pl.DataFrame:
    import polars as pl

    return pl.concat(found.table.insert_column(0, pl.lit(name).alias("beside")) for name, found in matches)


def _checked_content(checked: SampleCheck, matches: list[tuple[str, SampleMatches]], out: Path) -> dict[str, object]:
    pairs = None if checked.relatives is None else checked.relatives.pairs
    return {
        "out": str(out),
        "people": checked.people.height,
        "problems": dict(checked.problems.select("sample_id", "problems").iter_rows()),
        "sex": dict(checked.people["verdict"].value_counts(sort=True).iter_rows()),
        "relatives": None if pairs is None else dict(pairs["relation"].value_counts(sort=True).iter_rows()),
        "parents": dict(checked.parents["verdict"].value_counts(sort=True).iter_rows()),
        "matches": {name: dict(found.table["verdict"].value_counts(sort=True).iter_rows()) for name, found in matches},
        "notes": list(checked.notes),
        "not_for_clinical_use": True,
    }


def _checked_text(checked: SampleCheck, matches: list[tuple[str, SampleMatches]], out: Path) -> str:
    lines = [f"{checked.people.height:,} people, {checked.problems.height:,} with something to look at"]
    lines += [
        f"  {name}: {said}" for name, said in checked.problems.select("sample_id", "problems").head(20).iter_rows()
    ]
    if checked.relatives is not None:
        kinds = checked.relatives.pairs["relation"].value_counts(sort=True)
        lines += [f"{count:>8,} pairs: {kind}" for kind, count in kinds.iter_rows()]
    for name, found in matches:
        kinds = found.table["verdict"].value_counts(sort=True)
        lines += [f"{count:>8,} samples beside {name}: {verdict}" for verdict, count in kinds.iter_rows()]
        odd = found.table.filter(found.table["verdict"].is_in(["swapped", "renamed", "other person"]))
        pairs = odd.select("sample_id", "best_match").head(20).iter_rows()
        lines += [f"  {one}: is {other or 'nobody there'}" for one, other in pairs]
    return "\n".join([*lines, *checked.notes, f"Wrote {out}", NOT_CLINICAL])
