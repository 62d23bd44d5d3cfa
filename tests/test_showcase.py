"The samples of Figures 4 and 5: facestudy.pages.showcase"
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from facestudy.core import ROOT, InputError
from facestudy.detectors.aids import load_aid
from facestudy.measure.takes import Take, evenly
from facestudy.pages.showcase import (KINDS, SHOWN_MEASURES, duel, exhibit, eyes_turned, furthest, gaze_figure,
                                      keep_exhibit,
                                      looking, mean_measures, most_changed, paired, sample_figure, shape_figure,
                                      showcase)
from facestudy.study.runs import aid_file, aid_source, plan
from facestudy.study.takes import remake
from facestudy.training.system import CopySource

matplotlib.use('agg')


@pytest.fixture(scope='module')
def take():
    "Six frames of a spot that moves, with a box for a face in all but one"
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(60, 200, (1, 32, 32, 3), np.uint8), 6, 0)
    for i in range(6): x[i, 10:16, 3*i:3*i+6] = 20
    faces = np.tile([0, 0, .6, .6], (6, 1)).astype(np.float32)
    faces[4] = np.nan
    return Take('real', 'a', 'a', x, faces, x, faces, np.array([0, 0, 0, 0, 0, 1], bool))


@pytest.fixture(scope='module')
def shown(take):
    "What two systems without training make of three shots"
    def shot(at, what, gaze=None): return replace(take.shortened(np.array(at)), what=what, gaze=gaze)
    shots = [shot([0, 1, 2], 'gaze', np.array([0, 10., 30.])), shot([0, 3, 5], 'hand'),
             shot([0, 2, 4], 'real', np.array([0, 5., 3.]))]
    landmarker = load_aid('landmarker', aid_file('landmarker', aid_source('landmarker', 'quick'), 'quick'))
    suggested = plan('suggested', 'smoke', Fake).build('cpu').eval()
    return exhibit({'copy_source': CopySource(32), 'suggested': suggested, 'first_order': CopySource(32)}, shots,
                   landmarker)


class Fake:
    "As much of a clip store as a plan asks for"
    digest = 'x'
    def segments(split): return []


def test_a_few_frames_are_made_as_in_the_whole_film(take):
    system = plan('suggested', 'smoke', Fake).build('cpu').eval()
    with torch.no_grad():
        for p in system.parameters(): p += .1*torch.randn_like(p)  # untrained, it would hardly move
    whole = remake(system, take).astype(int)
    at = np.array([0, 2, 5])
    few = remake(system, take.shortened(at)).astype(int)
    assert np.abs(whole[at]-few).max() <= 1 and np.abs(whole[at][:-1]-whole[at][1:]).max() > 1

def test_first_is_source_and_last_is_kept():
    assert list(evenly([3, 4, 9], 2)) == [3, 4, 9] and list(evenly(range(10), 1)) == [0, 9]

def test_relative_where_another_drives_or_the_face_is_drawn(take):
    assert [replace(take, test=t).relative for t in ('real', 'cartoon', 'parametric cross')] == [False, True, True]

def test_rows_are_tidy_and_frames_are_kept(shown):
    rows,kept = shown
    second,last = rows[rows.shot == 1],rows[(rows.shot == 2) & (rows['sample'] == 2)]
    assert len(rows) == 3*3*2 and not rows.duplicated(['system', 'shot', 'sample']).any()
    assert set(rows.what) <= set(KINDS)
    assert second.frame.tolist() == [3, 5]*3 and second.hidden.tolist() == [False, True]*3
    assert kept['1.suggested'].shape == (2, 32, 32, 3) and kept['1.suggested points'].shape == (2, 68, 2)
    assert '1.copy_source' not in kept and second.gaze.isna().all() and last.deformation.isna().all()

def test_means_leave_out_hidden_frames_and_unknown_faces(shown):
    means = mean_measures(shown[0])
    assert (means.frames == 5).all() and (means.faces < 5).all()
    mine = shown[0][(shown[0].system == 'suggested') & ~shown[0].hidden.astype(bool)]
    assert means.psnr['suggested'] == pytest.approx(mine.psnr.mean())


def made_up(a, b):
    "Rows of two systems with these PSNRs and eye errors"
    def rows(s, v):
        return dict(system=s, label=s.upper(), shot=range(len(v)), sample=1, hidden=False, psnr=v, eye_error=v)
    return pd.concat([pd.DataFrame(rows('a', a)), pd.DataFrame(rows('b', b))], ignore_index=True)

def test_a_duel_knows_which_way_is_better_and_skips_the_unknown():
    rows = made_up([1, 2, 3, 5, np.nan], [2, 3, 1, 5, 0])
    assert duel(rows, 'a', 'b',
                'eye_error').startswith('In 4 frames, A has the lower eye error in 2 and B in 1, and 1 are equal;')
    assert duel(rows, 'a', 'b',
                'psnr').startswith('In 4 frames, A has the higher PSNR in 1 and B in 2, and 1 are equal;')
    assert len(paired(rows, 'a', 'b', 'psnr')) == 4 and 'in none' in duel(made_up([np.nan], [1]), 'a', 'b', 'psnr')

def test_choices_look_at_the_truth_alone(shown):
    rows = shown[0]
    assert furthest(rows) == [(0, 2), (2, 1)]
    worse = rows.assign(deformation=rows.deformation.where(rows.system == 'copy_source', 9.), eye_error=0.)
    assert most_changed(worse) == most_changed(rows) and furthest(worse) == furthest(rows)

def test_eyes_turn_in_the_head_only():
    m = looking(3, 9)
    assert eyes_turned(m)[[0, 2, 4, 6]] == pytest.approx([0, 30, 0, 30], abs=.1)
    assert eyes_turned(replace(m, head=m.head+20)) == pytest.approx(eyes_turned(m))

def test_files_hold_everything(shown, tmp_path):
    rows,kept = shown
    path = keep_exhibit(tmp_path, rows, kept, {'suggested': 'abc'}, 'd'*64)
    again = pd.read_csv(tmp_path/'comparison.rows.csv')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['comparison.npz', 'comparison.rows.csv']
    assert set(SHOWN_MEASURES) <= set(again) and (again.data == 'd'*12).all()
    assert again[again.system == 'suggested'].weights.unique() == ['abc']
    with np.load(path) as z: assert set(z) == set(kept)

def test_figures_say_what_was_measured(shown):
    rows,kept = shown
    for i in range(3):
        for what in ('', ' points'): kept[f'{i}.first_order{what}'] = kept[f'{i}.suggested{what}']
    texts = {ax.get_xlabel() for ax in sample_figure(rows, kept).axes}
    assert {f'{v:.1f} dB' for v in rows[rows.system == 'suggested'].psnr} <= texts
    assert 'suggested' not in sample_figure(rows, kept).axes[0].get_title()
    assert gaze_figure(rows, kept).axes[0].get_ylabel() == '30° turned'
    assert len(shape_figure(rows, kept, most=2).axes) == 10

def test_without_released_weights_nothing_is_begun():
    with pytest.raises(InputError, match='no weights are released for profile smoke'): showcase('smoke')

def test_kept_rows_and_frames_of_the_page_agree():
    path = ROOT/'reports'/'comparison.npz'
    rows = pd.read_csv(path.with_name('comparison.rows.csv'))
    assert path.stat().st_size < 2.2e6
    with np.load(path) as z:
        for (i,s),r in rows[rows.system != 'copy_source'].groupby(['shot', 'system']):
            assert len(z[f'{i}.{s}']) == len(r) == len(z[f'{i}.truth'])
            mse = np.square(z[f'{i}.{s}'].astype(float)-z[f'{i}.truth']).mean((1, 2, 3))
            assert 10*np.log10(255**2/mse) == pytest.approx(r.psnr.to_numpy(), abs=1e-3)
