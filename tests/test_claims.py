"Verdicts: rows with a known effect, none, and the opposite get the right answers"
import numpy as np
import pandas as pd
import pytest
from facestudy.study.claims import CLAIMS, MEASURES, all_rows, answers, conclude, derived, sentence, verdict_table
from facestudy.core import seed_all


def rows_for(claim, size, noise=.2, seeds=5, clips=12):
    "Rows in which every question of a claim has an effect of `size` times what matters"
    rng,out = seed_all(1, 2),{}
    for q in claim.questions:
        if not q.deciding: continue
        m = MEASURES[q.measure]
        turned = m.better*(-1 if q.worse else 1)
        for test in q.tests:
            for clip in range(clips):
                for seed in range(seeds):
                    for side,add in ((q.a, size), (q.b, 0.)):
                        key = side['cell'],side['bin'],test,f'clip{clip}',seed
                        out.setdefault(key, {})[q.measure] = 5+clip/10+turned*m.matters*(add+noise*rng.normal())
    index = ['cell', 'bin', 'test', 'clip', 'seed']
    return pd.DataFrame([dict(zip(index, k)) | v for k,v in out.items()])


@pytest.mark.parametrize('name', CLAIMS)
@pytest.mark.parametrize('size,verdict', [(3., 'supported'), (0., 'not supported'), (-3., 'not supported')])
def test_known_effects(name, size, verdict):
    table = answers(CLAIMS[name], rows_for(CLAIMS[name], size))
    assert conclude(table) == verdict
    assert sentence(table).startswith(f'**{verdict.capitalize()}**')


@pytest.mark.parametrize('name', ['C1', 'C5', 'C9'])
def test_noise_and_few_seeds_decide_nothing(name):
    assert conclude(answers(CLAIMS[name], rows_for(CLAIMS[name], .8, noise=30., seeds=3))) == 'not decidable'


def test_one_seed_decides_nothing():
    assert conclude(answers(CLAIMS['C3'], rows_for(CLAIMS['C3'], 3., seeds=1))) == 'not decidable'


def test_the_order_of_rows_does_not_matter():
    rows = rows_for(CLAIMS['C2'], 1.)
    a,b = (answers(CLAIMS['C2'], r) for r in (rows, rows.sample(frac=1., random_state=3)))
    pd.testing.assert_frame_equal(a, b)


def test_missing_cells_are_said():
    table = verdict_table(rows_for(CLAIMS['C1'], 3.))
    assert table.verdict['C1'] == 'supported' and (table.verdict.drop('C1') == 'not decidable').all()
    assert 'not run' in table.because['C4']


def test_gap_and_curve():
    rows = pd.DataFrame([dict(run='r', cell='base', seed=0, test=t, clip='c', bin='all', psnr=p) for t,p in (('train real', 25.), ('real', 24.), ('train parametric', 26.), ('parametric self', 23.))])
    logs = pd.DataFrame(dict(run='r', cell='base', seed=0, step=[0, 1, 2], psnr=[10., 20., 30.]))
    d = derived({'rows': rows, 'logs': logs}).set_index('clip')
    assert d.gap['real'] == 1 and d.gap['parametric'] == 3 and d.curve['held-out'] == 25
    assert len(all_rows({'rows': rows, 'logs': logs})) == 7


def test_thresholds_are_positive_and_explained():
    for m in MEASURES.values(): assert m.matters > 0 and m.why and m.words
