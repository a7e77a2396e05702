from careloop.genome.annotate.effects import effects_of, change_of, _placed
from careloop.genome.variant import Variant
def test_x(gene_world):
    v=Variant("1",14013,"C","CGTGAT")
    for e in effects_of(v,gene_world.genes,gene_world.sequences,gene_world.fetch):
        t=e.transcript
        if t.id=="T00002":
            print(e.terms,e.hgvs_c,e.hgvs_p,e.exon,e.cds_start,t.strand,t.exons,t.cds,t.cds_junctions,e.stop_codon, _placed(change_of(v),t,gene_world.fetch), t.cds_start, e.protein_start, t.cds_length)
    assert 0
