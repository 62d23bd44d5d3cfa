"Verdicts: rows with a known effect, none, and the opposite get the right answers"
import numpy as np
import pandas as pd
import pytest

from facestudy.core import seed_all
from facestudy.measure.measures import MEASURES
from facestudy.study.claims import (C2, C4, C5, CHANGES, CLAIMS, VERDICTS, all_rows, answers, change_table, conclude,
                                    derived, number, sentence, telling, verdict, verdict_table)


def rows_for(claim, size, noise=.2, seeds=5, clips=12, switched=1):
    "Rows in which every deciding question of a claim has an effect of `size` times what matters"
    rng,out = seed_all(1, 2),{}
    for q in claim.questions:
        if not q.deciding: continue
        m = MEASURES[q.measure]
        turned = m.better*(-1 if q.worse else 1)
        for test in q.tests:
            for clip in range(clips):
                for seed in range(seeds):
                    for side,add in ((q.a, size), (q.b, 0.)):
                        key = side['cell'],side['bin'],test,f'clip{clip}',f'person{clip//2}',seed
                        out.setdefault(key, {})[q.measure] = 5+clip/10+turned*m.matters*(add+noise*rng.normal())
    index = ['cell', 'bin', 'test', 'clip', 'identity', 'seed']
    rows = pd.DataFrame([dict(zip(index, k)) | v for k,v in out.items()])
    return rows.assign(switched=float(switched)) if claim.never else rows


@pytest.mark.parametrize('name', CLAIMS)
@pytest.mark.parametrize('size,word', [(3., 'supported'), (0., 'not supported'), (-3., 'not supported')])
def test_known_effects(name, size, word):
    rows = rows_for(CLAIMS[name], size)
    table = answers(CLAIMS[name], rows)
    assert conclude(table) == word == verdict(CLAIMS[name], rows)
    assert sentence(table).startswith(f'**{word.capitalize()}**')


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
    means = {'train real': 25., 'real': 24., 'train parametric': 26., 'parametric self': 23.}
    same = dict(run='r', cell='base', seed=0, clip='c', bin='all')
    rows = pd.DataFrame([dict(**same, test=t, psnr=p) for t,p in means.items()])
    logs = pd.DataFrame(dict(run='r', cell='base', seed=0, step=[0, 1, 2], psnr=[10., 20., 30.]))
    d = derived({'rows': rows, 'logs': logs}).set_index('clip')
    assert d.gap['real'] == 1 and d.gap['parametric'] == 3 and d.curve['held-out'] == 25
    assert len(all_rows({'rows': rows, 'logs': logs})) == 7


def test_thresholds_are_positive_and_explained():
    for m in MEASURES.values(): assert m.matters > 0 and m.why and m.words


def test_a_switch_that_never_came_is_not_tested():
    rows = rows_for(C4, 3., switched=0)
    assert verdict(C4, rows) == 'not tested' and conclude(answers(C4, rows)) == 'supported'
    table = verdict_table(rows)
    assert table.number['C4'] == f'the published criterion never fired (0 of {len(rows)})'
    assert 'SWATS (never switched) over Adam' in table.because['C4']


def test_switches_are_read_from_the_logs():
    line = dict(run='r', cell='base', seed=0, optimiser='swats', system='suggested', psnr=20., step=1)
    logs = pd.DataFrame([line | {'generator_switch_step': np.nan, 'superres_switch_step': np.nan}]*2)
    same = dict(run='r', cell='base', seed=0, clip='c', bin='all', psnr=20.)
    rows = pd.DataFrame([dict(**same, test=t) for t in ('real', 'train real')])
    def switched(logs): return derived({'rows': rows, 'logs': logs}).get('switched', pd.Series()).dropna().tolist()
    assert switched(logs) == [0]
    assert switched(logs.assign(superres_switch_step=[np.nan, 80.])) == [1]
    forced = logs.assign(optimiser='swats_fixed', superres_switch_step=80.)
    assert switched(forced) == [], 'a forced switch is none of the criterion'


def test_two_seeds_show_their_values_and_no_interval():
    table = answers(CLAIMS['C3'], rows_for(CLAIMS['C3'], 3., seeds=2))
    assert table[['low', 'high', 'p', 'needed']].isna().all(axis=None)
    assert (table.verdict[table.deciding] == 'not decidable').all()
    said = number(table.iloc[0])
    assert said.endswith(', no interval') and len(table['values'].iloc[0]) == 2 and ' and ' in said


def test_one_training_each_is_judged_over_people():
    rows = rows_for(C5, 3., seeds=1)
    table = answers(C5, rows).query('deciding')
    once = table[[q.people for q in C5.questions if q.deciding]]
    assert (once.clips == 6).all() and (once.seeds == 1).all() and (once.verdict == 'supported').all()
    assert (table.drop(once.index).verdict == 'not decidable').all(), 'a cell of the grid needs seeds'


def test_mixed_answers_are_a_verdict_of_their_own():
    rows = rows_for(CLAIMS['C3'], 3.)
    rows.loc[rows.cell == 'base', 'sharpness'] -= 6*MEASURES['sharpness'].matters
    table = answers(CLAIMS['C3'], rows)
    assert conclude(table) == 'mixed' and conclude(table, mixed=False) == 'not supported'
    assert telling(table, 'mixed').measure == 'sharpness'


def test_changes_are_on_record_with_both_verdicts():
    rows = rows_for(C2, 3.)
    table = change_table(rows).set_index('claim')
    assert table['verdict after']['C2'] == 'supported' and table['verdict before']['C2'] == 'not decidable'
    assert (table.when == '2026-11-24').all() and all(c.why and c.what for c in CHANGES)
    assert set(table['verdict before']) | set(table['verdict after']) <= set(VERDICTS)
