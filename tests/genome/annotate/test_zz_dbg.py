def test_dbg(gene_world):
    from careloop.genome.variant import Variant
    from careloop.genome.annotate.effects import effects_of
    v=Variant('1',7416,'C','CCCTTGCG')
    for e in effects_of(v,gene_world.genes,gene_world.sequences,gene_world.fetch):
        t=e.transcript
        if t.id!='T00001': continue
        print(t.strand,t.exons,t.cds,t.phase,e)
        print([b-a for a,b in t.exons[::t.strand]], t.cds_start)
    assert 0
