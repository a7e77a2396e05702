"""Known files looked up by allele: beside `bcftools annotate`, in any order, and refused on another assembly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.annotate.known.files import KnownFiles, open_known
from careloop.genome.annotate.known.request import KnownFile, parse_known
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.variant import Variant
from careloop.genome.variants.alleles import left_align

pysam = pytest.importorskip("pysam")

LENGTH = 30_000
Row = tuple[int, str, str, float]  # start, REF, ALT (as written), AF
GRCH37_20 = 63_025_520  # length of chromosome 20


def sequence_with_repeats(rng: random.Random) -> str:
    bases = ""
    while len(bases) < LENGTH:
        unit = "".join(rng.choices("ACGT", k=rng.choice([1, 2, 3, 30])))
        bases += unit * (rng.randint(3, 12) if len(unit) < 4 else 1)
    return bases[:LENGTH]


def shifted_right(sequence: str, variant: Variant, rng: random.Random) -> Variant:
    """Another spelling of an indel: moved to the right as far as chance and its repeat let it."""
    start, ref, alt = variant.start, variant.ref, variant.alt
    while len(ref) != len(alt) and rng.random() < 0.8:
        longer = ref if len(ref) > len(alt) else alt
        following = sequence[start + len(ref) : start + len(ref) + 1]
        if min(len(ref), len(alt)) > 1 or not following or longer[1] != following:
            break
        start += 1
        ref, alt = (ref[1:] + following if part is ref else following for part in (ref, alt))
        if len(ref) == 1:
            alt = following + variant_body(longer)
        else:
            ref = following + variant_body(longer)
    return Variant(variant.contig, start, ref, alt)


def variant_body(longer: str) -> str:
    """The bases behind the anchor once they are moved by one."""
    return longer[2:] + longer[1]


def random_variants(sequence: str, rng: random.Random, count: int) -> list[Variant]:
    """Distinct alleles, leftmost."""
    found = set()
    while len(found) < count:
        at, size = rng.randrange(10, LENGTH - 40), rng.randint(1, 6)
        made = "".join(rng.choices("ACGT", k=size))
        ref, alt = rng.choice(
            [(sequence[at], made[0]), (sequence[at : at + size + 1], sequence[at]), (sequence[at], sequence[at] + made)]
        )
        if ref != alt:
            start, (ref, alt) = left_align(lambda a, b: sequence[max(a, 0) : b], at, (ref, alt))
            found.add(Variant("20", start, ref, alt))
    return sorted(found, key=lambda v: (v.start, v.ref, v.alt))


def write_known(path: Path, rows: Sequence[Row], *, contig: str = "chr20", length: int = LENGTH) -> Path:
    """A VCF with AF of each allele, rows of one place and REF joined to one record."""
    places: dict[tuple[int, str], list[tuple[str, float]]] = {}
    for start, ref, alt, share in rows:
        places.setdefault((start, ref), []).append((alt, share))
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID={contig},length={length}>"]
    lines += ['##INFO=<ID=AF,Number=A,Type=Float,Description="f">', "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for (start, ref), alts in sorted(places.items()):
        alleles, shares = ",".join(alt for alt, _ in alts), ",".join(f"{share:.4f}" for _, share in alts)
        lines.append(f"{contig}\t{start + 1}\trs{start}\t{ref}\t{alleles}\t.\tPASS\tAF={shares}")
    path.write_text("\n".join(lines) + "\n")
    return path


def indexed(path: Path) -> Path:
    """A bgzip copy with an index."""
    return Path(pysam.tabix_index(str(path), preset="vcf", force=True, keep_original=True))


class KnownWorld:
    """A reference, alleles in a known file under other spellings and another contig name, and alleles to look up."""

    def __init__(self, folder: Path) -> None:
        rng = random.Random(31)
        self.folder, self.sequence = folder, sequence_with_repeats(rng)
        fasta = folder / "reference.fa"
        fasta.write_text(f">20\n{self.sequence}\n")
        self.reference: Reference = open_reference(fasta)
        every = random_variants(self.sequence, rng, 700)
        self.known = {variant: round(rng.random(), 4) for variant in rng.sample(every, 400)}
        self.queries = every
        rows = []
        for variant, share in self.known.items():
            written = shifted_right(self.sequence, variant, rng)
            rows.append((written.start, written.ref, written.alt, share))
        self.moved = sum(1 for row, variant in zip(rows, self.known, strict=True) if row[0] != variant.start)
        self.vcf = write_known(folder / "known.vcf", rows)
        self.indexed = indexed(self.vcf)

    def open(self, path: Path) -> KnownFiles:
        return open_known([KnownFile("population", path, ("AF",))], self.reference)


@pytest.fixture(scope="session")
def known_world(tmp_path_factory: pytest.TempPathFactory) -> KnownWorld:
    return KnownWorld(tmp_path_factory.mktemp("known"))


def test_alleles_are_found_under_every_spelling_and_name_of_the_contig(known_world: KnownWorld) -> None:
    assert known_world.moved > 50
    binary = known_world.folder / "known.bcf"
    pysam.bcftools.view("-Ob", "-o", str(binary), str(known_world.indexed), catch_stdout=False)
    pysam.bcftools.index(str(binary))
    for path in (known_world.vcf, known_world.indexed, binary):
        known = known_world.open(path)
        for variant in known_world.queries:
            found = known.matches(variant)
            if variant in known_world.known:
                assert float(found["population"]["AF"]) == known_world.known[variant], variant
            else:
                assert found == {}, variant


def test_matches_are_those_of_bcftools_annotate(known_world: KnownWorld, tmp_path: Path) -> None:
    fasta, queries = str(known_world.reference.path), tmp_path / "queries.vcf"
    write_known(queries, [(v.start, v.ref, v.alt, 0.0) for v in known_world.queries], contig="20")
    rows = known_world.vcf.read_text().replace("chr20", "20")
    (tmp_path / "known.vcf").write_text(rows)
    for name in ("queries", "known"):
        source, split = str(tmp_path / f"{name}.vcf"), str(tmp_path / f"{name}.split.vcf")
        pysam.bcftools.norm("-m-", "-f", fasta, "-o", split, source, catch_stdout=False)
        pysam.bcftools.sort("-Oz", "-o", f"{split}.gz", split, catch_stdout=False)
        pysam.tabix_index(f"{split}.gz", preset="vcf", force=True)
    bare, out = str(tmp_path / "bare.vcf.gz"), str(tmp_path / "out.vcf")
    pysam.bcftools.annotate("-x", "INFO", "-Oz", "-o", bare, str(tmp_path / "queries.split.vcf.gz"), catch_stdout=False)
    pysam.tabix_index(bare, preset="vcf", force=True)
    known_file = str(tmp_path / "known.split.vcf.gz")
    pysam.bcftools.annotate("-a", known_file, "-c", "INFO/AF", "-o", out, bare, catch_stdout=False)
    known, compared = known_world.open(known_world.indexed), 0
    for record in pysam.VariantFile(out):
        ours = known.matches(Variant("20", record.start, record.ref, record.alts[0]))
        theirs = record.info.get("AF")
        assert bool(ours) == (theirs is not None), record
        if ours:
            assert float(ours["population"]["AF"]) == pytest.approx(theirs[0], abs=1e-6)
        compared += 1
    assert compared == len(known_world.queries)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=st.lists(st.integers(0, 699), min_size=1, max_size=60))
def test_any_order_of_look_ups_finds_the_same(known_world: KnownWorld, order: list[int]) -> None:
    known = known_world.open(known_world.indexed)
    for index in order:
        variant = known_world.queries[index]
        assert bool(known.matches(variant)) == (variant in known_world.known)
        place = variant.start
        there = {v for v in known_world.known if len(v.ref) == len(v.alt) and place - 40 <= v.start < place + 40}
        found = {a.variant for a in known.within("population", "20", place - 40, place + 40)}
        assert there == {v for v in found if len(v.ref) == len(v.alt)}


def test_whether_a_file_looked_near_is_by_its_records(known_world: KnownWorld, tmp_path: Path) -> None:
    path = write_known(tmp_path / "sparse.vcf", [(5000, known_world.sequence[5000], "N", 0.1)])
    for file in (path, indexed(path)):
        known = known_world.open(file)
        near = [known.looked_near("population", Variant("20", at, "A", "C")) for at in (4950, 5050, 5400, 4000)]
        assert near == [True, True, False, False]


def test_a_file_on_another_assembly_is_refused(known_world: KnownWorld, tmp_path: Path) -> None:
    base = known_world.sequence[99]
    wrong_length = write_known(tmp_path / "length.vcf", [(99, base, "N", 0.1)], length=LENGTH + 1)
    with pytest.raises(InputError, match="contig lengths must agree"):
        known_world.open(wrong_length)
    other = random.Random(5)
    rows = [(at, other.choice("ACGT"), "N", 0.1) for at in range(100, 20_000, 200)]
    with pytest.raises(InputError, match="REF must be the reference's bases"):
        known_world.open(write_known(tmp_path / "bases.vcf", rows))
    reference = open_reference(known_world.reference.path)
    reference.build = "GRCh38"
    path = write_known(tmp_path / "build.vcf", [(99, base, "N", 0.1)], length=GRCH37_20)
    with pytest.raises(InputError, match="GRCh37"):
        open_known([KnownFile("population", path)], reference)


def test_values_are_those_asked_for_and_flags_and_columns_too(known_world: KnownWorld, tmp_path: Path) -> None:
    base = known_world.sequence[200]
    alts = [b for b in "ACGT" if b != base][:2]
    text = (
        "##fileformat=VCFv4.3\n##contig=<ID=20>\n"
        '##INFO=<ID=AC,Number=R,Type=Integer,Description="a">\n##INFO=<ID=DB,Number=0,Type=Flag,Description="b">\n'
        '##INFO=<ID=NOTE,Number=.,Type=String,Description="c">\n##FILTER=<ID=low,Description="d">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"20\t201\trs7\t{base}\t{','.join(alts)}\t12.5\tlow\tAC=10,20,30;DB;NOTE=x,y\n"
    )
    path = tmp_path / "values.vcf"
    path.write_text(text)
    keys = ("ID", "FILTER", "QUAL", "AC", "DB", "NOTE")
    known = open_known([KnownFile("mine", path, keys)], known_world.reference)
    found = [known.matches(Variant("20", 200, base, alt))["mine"] for alt in alts]
    common = {"ID": "rs7", "FILTER": "low", "QUAL": "12.5", "DB": "1", "NOTE": "x,y"}
    assert found == [common | {"AC": "20"}, common | {"AC": "30"}]
    with pytest.raises(InputError, match="'AF' is not among the file's values"):
        open_known([KnownFile("mine", path, ("AF",))], known_world.reference)
    with pytest.raises(InputError, match="given twice"):
        open_known([KnownFile("mine", path), KnownFile("mine", path)], known_world.reference)


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_table_gives_its_columns_and_counts_bad_rows(known_world: KnownWorld, tmp_path: Path, delimiter: str) -> None:
    variants = [v for v in known_world.queries if len(v.ref) == len(v.alt) == 1][:30]
    rows = [["Chrom", "Pos", "REF", "Alt", "score", "note"]]
    rows += [["chr20", str(v.start + 1), v.ref, v.alt, f"{i}.5", ""] for i, v in enumerate(variants)]
    rows += [["20", "zero", "A", "C", "1", ""], ["20", "9"], ["Z", "5", "A", "C", "1", ""]]
    path = tmp_path / ("table.csv" if delimiter == "," else "table.tsv")
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    known = open_known([KnownFile("table", path)], known_world.reference)
    assert known.keys == {"table": ("score", "note")}
    assert [known.matches(v)["table"] for v in variants] == [{"score": f"{i}.5"} for i in range(30)]
    assert known.rejects["table"].total == 3
    path.write_text(delimiter.join(["chrom", "ref", "alt"]) + "\n")
    with pytest.raises(InputError, match="needs a column position"):
        open_known([KnownFile("table", path)], known_world.reference)


def test_intervals_match_the_bases_that_are_changed(known_world: KnownWorld, tmp_path: Path) -> None:
    rng, path = random.Random(3), tmp_path / "repeats.bed"
    spans = [(at, at + rng.randint(1, 300), f"r{i}") for i, at in enumerate(rng.sample(range(LENGTH - 400), 60))]
    path.write_text("track name=x\n" + "".join(f"chr20\t{a}\t{b}\t{name}\t7\n" for a, b, name in spans) + "bad line\n")
    known = open_known([KnownFile("repeats", path, ("name",))], known_world.reference)
    assert known.rejects["repeats"].total == 1
    hits = 0
    for variant in known_world.queries:
        if len(variant.ref) == len(variant.alt):
            changed = set(range(variant.start, variant.end))
        elif len(variant.ref) > 1:  # what is deleted behind the anchor
            changed = set(range(variant.start + 1, variant.end))
        else:  # the two bases that an insertion parts
            changed = {variant.start, variant.start + 1}
        names = {name for a, b, name in spans if changed & set(range(a, b))}
        found = known.matches(variant).get("repeats", {}).get("name", "")
        assert set(found.split("&")) - {""} == names, variant
        hits += bool(names)
    assert 50 < hits < len(known_world.queries)
    path.write_text(f"20\t5\t{LENGTH + 1}\n")
    with pytest.raises(InputError, match="reference's assembly"):
        open_known([KnownFile("repeats", path)], known_world.reference)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gnomad=g.vcf.gz:AF,AN", KnownFile("gnomad", Path("g.vcf.gz"), ("AF", "AN"))),
        ("clinvar_2026=c.vcf", KnownFile("clinvar_2026", Path("c.vcf"))),
        ("mine=folder/a=b.csv:score", KnownFile("mine", Path("folder/a=b.csv"), ("score",))),
        ("mine=s3:data/x.vcf", KnownFile("mine", Path("s3:data/x.vcf"))),
    ],
)
def test_a_known_file_is_written_as_name_path_and_keys(text: str, expected: KnownFile) -> None:
    assert parse_known(text) == expected


@pytest.mark.parametrize("text", ["", "path.vcf", "=x.vcf", "name=", "a b=x.vcf"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="known file"):
        parse_known(text)


@pytest.mark.parametrize(
    ("name", "role"), [("clinvar", "clinvar"), ("ClinVar_x", "clinvar"), ("gnomad_exomes", "gnomad"), ("mine", "other")]
)
def test_roles_are_by_name(name: str, role: str) -> None:
    assert KnownFile(name, Path("x")).role == role
