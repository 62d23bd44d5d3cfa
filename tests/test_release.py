"Weights that travel: written from finished runs, measured again, told apart from those trained here"
import shutil

import numpy as np
import pandas as pd
import pytest
from facestudy.core import InputError, load_tensors
from facestudy.cli import find_system
from facestudy.study.release import LIMIT, card, finished, metrics_of, release, release_aid
from facestudy.pages.report import report
from facestudy.study.data import open_data
from facestudy.study.release import released_file
from facestudy.study.runs import checkpoints_dir, plan, runs_dir
from facestudy.study.scores import TIMINGS
from facestudy.study.study import study
from facestudy.nets import load_net, net_meta

NAMES = ['copy_source', 'suggested', 'few_shot']

@pytest.fixture(scope='module')
def shipped(smoke, tmp_path_factory):
    "Two systems of the smoke study, released from a copy of its runs"
    d = tmp_path_factory.mktemp('shipped')
    shutil.copytree(smoke.runs, d/'runs')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('FACESTUDY_RUNS', str(d/'runs'))
        m.setenv('FACESTUDY_CHECKPOINTS', str(d/'checkpoints'))
        rows = study('smoke', NAMES, device='cpu')                             # reads what is there
        table = release('smoke', NAMES)
        yield d,rows,table

def test_what_is_released(shipped):
    d,_,table = shipped
    assert table.system.tolist() == ['suggested', 'few_shot', 'landmarker', 'parser']  # copy-source learned nothing
    names = {f.name for f in checkpoints_dir().iterdir()}
    assert names == {f'{s}.{e}' for s in table.system for e in ('safetensors', 'md')}
    tensors,meta = load_tensors(checkpoints_dir()/'suggested.safetensors')
    assert not any(k.startswith('discriminator') for k in tensors)
    assert {str(v.dtype) for v in tensors.values() if v.is_floating_point() and v.ndim > 1} == {'torch.float16'}
    assert meta['log'][0]['step'] == 0 and meta['log'][-1]['step'] == meta['steps'] == 6
    assert sum(f.stat().st_size for f in checkpoints_dir().glob('*.safetensors')) < LIMIT

def test_the_card_says_how_it_was_made(shipped):
    d,rows,_ = shipped
    text = (checkpoints_dir()/'few_shot.md').read_text()
    meta = net_meta(checkpoints_dir()/'few_shot.safetensors', 'system')
    for word in (meta['run'], meta['data'], meta['device'], 'Apache-2.0', 'parametric cross', '12 pairs',
                 'the best of 1'):
        assert word in text, word
    psnr = rows[(rows.system == 'few_shot') & (rows.test == 'real')].groupby('clip').psnr.mean().mean()
    assert f'| real | {psnr:.2f} |' in text

def test_released_weights_score_what_the_run_scored(shipped):
    "Half precision moves a frame by hundredths of a decibel; the rows say which weights they are of"
    d,rows,_ = shipped
    again = study('smoke', NAMES, device='cpu', released=True)
    assert set(again.weights[again.system != 'copy_source']) == {'released'} and set(rows.weights) == {'trained here'}
    assert set(again.weights[again.system == 'copy_source']) == {'trained here'}  # there is nothing to release
    assert np.abs(again.psnr.values-rows.psnr.values).max() < .1
    assert not set(again.run[again.weights == 'released']) & set(rows.run)
    def times(): return {f: f.stat().st_mtime_ns for f in runs_dir().glob('released-*/rows.csv')}
    before,third = times(),study('smoke', ['suggested'], device='cpu', released=True)
    pd.testing.assert_frame_equal(third, again[again.system == 'suggested'].reset_index(drop=True))
    assert before == times()                                                   # read, not measured again

def test_the_page_says_which_it_did(shipped, tmp_path):
    page = report('smoke', ['copy_source', 'suggested'], out=tmp_path/'a', device='cpu').read_text()
    assert 'Measured from the released weights' in page and 'Everything was trained' not in page

def test_weights_of_another_profile_are_not_taken(shipped):
    assert released_file('suggested', 'smoke')
    assert released_file('suggested', 'quick') is None and released_file('improved', 'smoke') is None

def test_released_weights_animate_by_name(shipped, monkeypatch, tmp_path):
    "A newcomer has no runs; own runs of more than smoke come first"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    assert find_system('suggested') == checkpoints_dir()/'suggested.safetensors'
    assert load_net(find_system('few_shot'), 'system').discriminator is None

def test_no_run_no_release(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    said = '^improved: no finished run .* `facestudy study --profile smoke --systems improved'
    with pytest.raises(InputError, match=said): release('smoke', ['improved'])

def test_too_heavy(shipped, monkeypatch):
    monkeypatch.setattr('facestudy.study.release.LIMIT', 1000)
    with pytest.raises(InputError, match='the limit'): release('smoke', ['suggested'])

def test_the_best_of_several_runs(shipped):
    d,rows,_ = shipped
    study('smoke', ['suggested'], device='cpu', steps=2)
    found = finished('suggested', 'smoke', open_data('smoke').digest)
    psnr = [metrics_of(pd.read_csv(f/'rows.csv'))['real']['psnr'] for f in found]
    assert len(found) == 2 and psnr == sorted(psnr, reverse=True)
    assert finished('suggested', 'smoke', 'other data') == []
