"Paired comparison, intervals, corrections and verdicts: facestudy.measure.contrasts"
import math
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from facestudy.core import InputError
from facestudy.measure.contrasts import (Contrast, adjusted, clip_interval, contrast, crossed_means, factorial,
                                         forest, judge, needed_seeds, p_text, paired, percentile_interval,
                                         seeds_text, verdicts)

ON,OFF = {'part': 'on'},{'part': 'off'}

def rows(effect, seeds=5, clips=25, seed_sd=.1, clip_sd=.2, noise=.2, rng=0, tests=('self',)):
    "Tidy rows in which `on` is better than `off` by `effect`"
    rng = np.random.default_rng(rng)
    out = []
    for t in tests:
        hard = rng.normal(24, 3, clips) + rng.normal(0, .5, (seeds, 1))
        gain = effect + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, clip_sd, clips)
        for on,s,c in np.ndindex(2, seeds, clips):
            score = hard[s, c] + on*gain[s, c] + rng.normal(0, noise/2**.5)
            out.append(dict(part=('off', 'on')[on], seed=s, test=t, clip=f'c{c:02}', psnr=score))
    return pd.DataFrame(out)

def diff(*a, **k): return paired(rows(*a, **k), 'psnr', ON, OFF)

def luck(rng, seeds, seed_sd, clip_sd, clips=25):
    "Differences whose true mean is 0, with seed, clip and residual effects"
    return rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, clip_sd, clips) + rng.normal(0, 1, (seeds, clips))


@pytest.mark.parametrize('draw', range(3))
@pytest.mark.parametrize('experiment,verdict', [
    (dict(effect=1), 'supported'),
    (dict(effect=0), 'not supported'),
    (dict(effect=-1), 'not supported'),
    (dict(effect=.5, seeds=3, seed_sd=1), 'not decidable'),
    (dict(effect=1, seeds=2), 'not decidable'),
    (dict(effect=1, seeds=1), 'not decidable')])
def test_verdicts_of_known_effects(experiment, verdict, draw):
    d = diff(**experiment, rng=draw)
    assert judge(contrast(d), .4) == verdict
    both = adjusted({'a': d, 'b': diff(1, rng=50+draw)})
    assert judge(both['a'], .4) == verdict

@pytest.mark.parametrize('ends,verdict', [
    ((.2, 1.5, 3), 'supported'), ((.2, 1, 1.2), 'supported'), ((.2, .8, 1.4), 'not decidable'),
    ((.2, .5, .9), 'not supported'), ((-2, -1, -.1), 'not supported'), ((-.5, .1, .7), 'not supported'),
    ((-.5, .4, 1), 'not decidable'), ((0, 2, 4), 'not decidable'),
    ((math.nan, math.nan, math.nan), 'not decidable'), ((-math.inf, 2, math.inf), 'not decidable')])
def test_corner_cases(ends, verdict):
    low,estimate,high = ends
    assert judge(Contrast(estimate, low, high, .95, .5, 1., 3, 25, 5., 'by hand'), 1) == verdict

@pytest.mark.parametrize('threshold', [0, -1, math.nan])
def test_threshold_is_positive(threshold):
    with pytest.raises(InputError, match='above 0'): judge(contrast(diff(1)), threshold)

def test_one_seed_is_decidable_only_on_request():
    c = contrast(diff(1, seeds=1), min_seeds=1)
    assert (judge(c, .4), judge(c, .4, min_seeds=1)) == ('not decidable', 'supported')
    assert 'one seed' in c.method

@pytest.mark.parametrize('seeds', [1, 2])
def test_no_interval_from_fewer_than_three_seeds(seeds):
    c = contrast(diff(1, seeds=seeds))
    assert math.isfinite(c.estimate) and 'fewer than 3 seeds' in c.method
    assert all(math.isnan(v) for v in (c.low, c.high, c.p))
    both = adjusted({'few': diff(1, seeds=seeds), 'enough': diff(1)})
    assert math.isnan(both['few'].p)
    assert both['enough'].p == pytest.approx(2*contrast(diff(1)).p)       # the other one counts in the correction


@pytest.mark.parametrize('seeds', [3, 5])
@pytest.mark.parametrize('seed_sd,clip_sd', [(1, 1), (1, .3), (.5, 2)])
def test_coverage(seeds, seed_sd, clip_sd):
    rng = np.random.default_rng(seeds)
    cs = [contrast(luck(rng, seeds, seed_sd, clip_sd), resamples=299) for _ in range(300)]
    share = np.mean([c.low <= 0 <= c.high for c in cs])
    assert .93 <= share <= .995                      # wide enough, and not merely wide
    assert [c.p < .05 for c in cs] == [not c.low <= 0 <= c.high for c in cs]

def test_bootstrap_alone_would_be_too_narrow():
    rng = np.random.default_rng(0)
    ends = [percentile_interval(crossed_means(luck(rng, 3, 1, .3), 299, 0), .05) for _ in range(300)]
    assert np.mean([o.low <= 0 <= o.high for o in ends]) < .87

def test_crossed_bootstrap_has_the_variance_of_its_formula():
    d = luck(np.random.default_rng(3), 5, 1, 1)
    r = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    expected = d.mean(1).var()/5 + d.mean(0).var()/25 + (r**2).mean()/125
    assert crossed_means(d, 20_000, 0).var() == pytest.approx(expected, rel=.05)

def test_more_data_narrows_the_interval():
    cs = [contrast(diff(1, seeds=s, clips=c, seed_sd=.5)) for s,c in ((3, 10), (10, 40), (30, 80))]
    width = [c.high - c.low for c in cs]
    assert width[0] > width[1] > width[2] > 0


def test_order_of_rows_and_repetition_change_nothing():
    t = rows(.5, tests=('self', 'cross'))
    shuffled = t.sample(frac=1, random_state=3)[list(t.columns[::-1])]
    a,b = (paired(o, 'psnr', ON, OFF) for o in (t, shuffled))
    assert a.equals(b) and contrast(a, threshold=.2) == contrast(b, threshold=.2) == contrast(a, threshold=.2)
    assert adjusted({'x': a, 'y': -a}) == adjusted({'x': b, 'y': -b})

def test_pairs_by_test_and_clip():
    t = rows(.5, tests=('self', 'cross'))
    assert paired(t, 'psnr', ON, OFF).shape == (5, 50)
    assert paired(t, 'psnr', ON, OFF, {'test': 'cross'}).shape == (5, 25)
    assert paired(t.query('test == "self"').drop(columns='test'), 'psnr', ON, OFF).equals(
        paired(t, 'psnr', ON, OFF, {'test': 'self'}).droplevel('test', axis=1))
    with pytest.raises(InputError, match='two rows'):
        paired(t.drop(columns='test'), 'psnr', ON, OFF)

def test_only_what_both_have():
    t = rows(.5)
    t = t[~((t.part == 'on') & (t.seed == 4)) & ~((t.part == 'off') & (t['clip'] == 'c03'))]
    d = paired(t, 'psnr', ON, OFF)
    assert d.shape == (4, 24) and contrast(d).estimate == pytest.approx(d.to_numpy().mean())

@pytest.mark.parametrize('change,message', [
    (lambda t: t.drop(columns='psnr'), 'lack the columns psnr'),
    (lambda t: t[t.part == 'on'], 'no row has part'),
    (lambda t: t[(t.part == 'on') == (t.seed < 2)], 'nothing pairs'),
    (lambda t: pd.concat([t, t[-1:]]), 'two rows'),
    (lambda t: t.drop(columns='part'), 'no column part'),
    (lambda t: t.assign(clip=None), 'no value in one of')])
def test_refused_rows(change, message):
    with pytest.raises(InputError, match=message): paired(change(rows(1)), 'psnr', ON, OFF)


def test_missing_values():
    d = diff(1)
    d.iloc[0, 0] = np.nan
    c = contrast(d)
    assert (c.seeds, c.clips) == (5, 24) and c.estimate == pytest.approx(d.iloc[:, 1:].to_numpy().mean())
    nothing = contrast(d*np.nan, threshold=1)
    assert math.isnan(nothing.estimate) and math.isnan(nothing.p)
    assert nothing.seeds == 0 and judge(nothing, 1) == 'not decidable'
    with pytest.raises(InputError, match='infinite'): contrast(d.fillna(np.inf))

def test_no_difference_at_all():
    c = contrast(np.zeros((3, 8)), threshold=1)
    assert (c.estimate, c.low, c.high, c.p, c.needed) == (0, 0, 0, 1, 2)
    assert math.isnan(c.effect) and judge(c, 1) == 'not supported'
    c = contrast(np.full((3, 8), .1), threshold=1)
    assert c.low == pytest.approx(.1) and c.high == pytest.approx(.1) and 0 < c.p < .05

def test_clips_that_vary_and_seeds_that_do_not():
    x = np.random.default_rng(0).normal(.3, 1, 20)
    c = contrast(np.tile(x, (3, 1)))
    t = stats.ttest_1samp(x, 0).confidence_interval()
    assert c.low <= t.low + 1e-12 and c.high >= t.high - 1e-12

def test_p_is_never_zero():
    far_from_zero = 100 + luck(np.random.default_rng(0), 5, .1, .1)
    for d in (np.full((3, 8), 5.), far_from_zero): assert 2/10_000 <= contrast(d).p < .001

def test_effect_is_hedges_g():
    d = luck(np.random.default_rng(0), 4, .5, .5) + 1
    g = d.mean()/d.std(ddof=1)*(1 - 3/(4*(d.size-1) - 1))
    assert contrast(d).effect == pytest.approx(g)
    assert contrast(d*100).effect == pytest.approx(g)     # free of units


def test_holm_by_hand_and_bonferroni_intervals():
    assert multipletests([.01, .04, .03, .005], method='holm')[1] == pytest.approx([.03, .06, .06, .02])
    diffs = {f'c{i}': diff(e, rng=i, seeds=4) for i,e in enumerate((1, .3, .2, 0))}
    one = {k: contrast(d) for k,d in diffs.items()}
    all_ = adjusted(diffs)
    running = 0
    for i,(v,k) in enumerate(sorted((c.p, k) for k,c in one.items())):
        running = max(running, min(1, (4-i)*v))
        assert all_[k].p == pytest.approx(running)
        alone = contrast(diffs[k], 1-.05/4)
        assert (all_[k].low, all_[k].high) == (alone.low, alone.high) and all_[k].level == pytest.approx(.9875)
    with pytest.raises(InputError, match='too few'): adjusted(diffs, resamples=50)
    with pytest.raises(InputError, match='c1 has no threshold'): adjusted(diffs, threshold={'c0': 1})

def test_family_error_is_kept():
    rng = np.random.default_rng(0)
    false = raw = 0
    for _ in range(20):
        diffs = {i: luck(rng, 5, 1, .5, 8) for i in range(15)}
        false += any(c.p < .05 for c in adjusted(diffs, resamples=999).values())
        raw += any(contrast(d, resamples=999).p < .05 for d in diffs.values())
    assert false <= 3 < raw          # one family in twenty may err; uncorrected it is every other one


def test_needed_shrinks_with_the_spread():
    d = luck(np.random.default_rng(0), 5, 1, 0)
    s = d.mean(1, keepdims=True) - d.mean()
    n = [needed_seeds(s*k, .5) for k in (4, 2, 1, .5, .25, 0)]
    assert n == sorted(n, reverse=True) and n[0] > 4*n[2] and n[-1] == 2
    assert needed_seeds(s, 1) < needed_seeds(s, .5) < needed_seeds(s, .5, level=.99)

def test_needed_is_honest_about_clips_and_single_seeds():
    d = luck(np.random.default_rng(0), 5, .1, 5)
    assert needed_seeds(d, .5) == math.inf and needed_seeds(d, 10) < 10
    assert math.isnan(needed_seeds(d[:1], .5)) and math.isnan(contrast(d).needed)

def test_needed_seeds_are_enough():
    pilot = np.random.default_rng(0).normal(0, 1, (5, 1))
    pilot *= 1/pilot.std(ddof=1)
    n = int(needed_seeds(pilot, .7))
    found = stats.ttest_1samp(np.random.default_rng(1).normal(.7, 1, (4000, n)), 0, axis=1).pvalue < .05
    assert .78 <= found.mean() <= .86


def grid(rng, seeds=3, clips=8):
    "Full factorial of three parts: a gives 1, b takes 0.5, c nothing, a and c together 0.6 more"
    out = []
    hard,lucky = rng.normal(24, 3, clips),rng.normal(0, 1, seeds)
    for a,b,c,s in np.ndindex(2, 2, 2, seeds):
        run = lucky[s] + rng.normal(0, .05) + a - .5*b + .6*a*c
        cell = dict(a=bool(a), b=('no', 'yes')[b], c=bool(c), seed=s)
        out += [dict(**cell, clip=k, psnr=run + hard[k] + rng.normal(0, .1)) for k in range(clips)]
    return pd.DataFrame(out)

FACTORS = dict(a=(False, True), b=('no', 'yes'), c=(False, True))
PLANTED = {'a': 1.3, 'b': -.5, 'c': .3, 'a x b': 0, 'a x c': .3, 'b x c': 0}

def test_factorial_recovers_what_was_planted():
    t = factorial(grid(np.random.default_rng(0)), 'psnr', FACTORS)
    assert list(t.index) == list(PLANTED)
    for k,v in PLANTED.items(): assert t.estimate[k] == pytest.approx(v, abs=.08)
    assert (t.p_holm < .05).to_dict() == {k: v != 0 for k,v in PLANTED.items()}
    assert t.p_holm.tolist() == pytest.approx(multipletests(t.p, method='holm')[1])
    assert (t.seeds == 3).all() and (t.clips == 8).all() and (t.df == 24-3-6).all()

def test_factorial_interval_covers():
    v,hits = pd.Series(PLANTED),[]
    for i in range(20):
        t = factorial(grid(np.random.default_rng(i), clips=4), 'psnr', FACTORS)
        hits.append(((t.low <= v) & (v <= t.high)).tolist())
    assert .89 <= np.mean(hits) <= .99

def test_factorial_order_and_holes():
    t = grid(np.random.default_rng(0))
    shuffled = factorial(t.sample(frac=1, random_state=1), 'psnr', FACTORS)
    assert np.array_equal(shuffled.to_numpy(), factorial(t, 'psnr', FACTORS).to_numpy())
    t.loc[(t['clip'] == 2) & t.a & (t.seed == 1), 'psnr'] = np.nan
    assert (factorial(t, 'psnr', FACTORS).clips == 7).all()
    two = factorial(t[~(t.a & t.c & (t.seed == 1))], 'psnr', FACTORS)
    assert (two.seeds == 2).all() and two.estimate.notna().all()
    assert two[['low', 'high', 'p', 'p_holm']].isna().all(axis=None)
    with pytest.raises(InputError, match='missing'): factorial(t[~(t.a & t.c)], 'psnr', FACTORS)
    with pytest.raises(InputError, match='two rows'): factorial(t, 'psnr', ['a', 'c'])
    assert list(factorial(t, 'psnr', ['a', 'c'], where={'b': 'no'}).index) == ['a', 'c', 'a x c']


def test_table_and_figure():
    import matplotlib
    matplotlib.use('agg')
    import matplotlib.pyplot as plt
    limits = {'good': .4, 'none': .4, 'one pair': .2}
    cs = adjusted({'good': diff(1), 'none': diff(0), 'one pair': diff(1).iloc[:1, :1]}, threshold=limits)
    t = verdicts(cs, limits)
    assert t.verdict.tolist() == ['supported', 'not supported', 'not decidable'] and t.threshold['one pair'] == .2
    assert [f.name for f in fields(Contrast)] == [c for c in t.columns if c not in ('threshold', 'verdict')]
    fig = forest(t, 'dB')
    ax = fig.axes[0]
    assert [o.get_text() for o in ax.get_yticklabels()] == list(t.index) and ax.get_xlabel() == 'dB'
    lines = [o for o in ax.lines if len(o.get_xdata()) == 2 and o.get_linewidth() == 2]
    assert [tuple(o.get_xdata()) for o in lines] == [(cs[k].low, cs[k].high) for k in ('good', 'none')]
    plt.close(fig)

def test_import_needs_neither_scipy_stats_nor_statsmodels():
    code = ('import sys, facestudy.measure.contrasts\n'
            'print([m for m in ("scipy.stats", "statsmodels", "matplotlib") if m in sys.modules])')
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == '[]'


def test_clip_interval_is_that_of_the_mean():
    x = np.random.default_rng(0).normal(20, 2, 40)
    low,high = clip_interval(x)
    t = stats.ttest_1samp(x, 0).confidence_interval()
    assert low <= t.low and high >= t.high and high-low < 1.1*(t.high-t.low)
    assert clip_interval(x) == clip_interval(np.random.default_rng(1).permutation(x)) == (low, high)
    wide = clip_interval(x, level=.99)
    assert wide[0] < low and wide[1] > high

def test_clip_interval_draws_persons():
    x = np.random.default_rng(0).normal(20, 2, 10)
    who = np.repeat(np.arange(10), 4)
    assert clip_interval(x[who], who) == pytest.approx(clip_interval(x))      # copies of a clip say nothing new
    one,every = clip_interval(x[who]),clip_interval(x[who], who)
    assert every[1]-every[0] > 1.8*(one[1]-one[0])

@pytest.mark.parametrize('values,groups', [
    ([], None), ([1., 2.], None), ([1., 2., math.nan], None), ([1., 2., 3., 4.], list('aabb'))])
def test_no_clip_interval_from_fewer_than_three(values, groups):
    assert all(math.isnan(v) for v in clip_interval(values, groups))

def test_clip_interval_refuses():
    with pytest.raises(InputError, match='one group per clip'): clip_interval([1., 2., 3.], ['a'])
    with pytest.raises(InputError, match='infinite'): clip_interval([1., 2., math.inf])


@pytest.mark.parametrize('p,text', [
    (math.nan, '–'), (2e-4, 'p < .001'), (.001, 'p .001'), (.0184, 'p .018'), (1., 'p 1')])
def test_p_in_words(p, text): assert p_text(p) == text

@pytest.mark.parametrize('n,text', [(math.nan, '–'), (20., 'about 20'), (100., 'about 100'), (101., 'more than 100'),
                                    (math.inf, 'more than 100')])
def test_seeds_in_words(n, text): assert seeds_text(n) == text
