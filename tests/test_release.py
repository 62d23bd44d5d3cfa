"Weights that travel: written from finished runs, measured again, told apart from those trained here"
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from facestudy import cli
from facestudy.core import InputError, load_tensors, progress
from facestudy.cli import find_system
from facestudy.media import write_video
from facestudy.study.release import LIMIT, card, finished, metrics_of, release, release_aid
from facestudy.pages.report import report
from facestudy.study.data import Filmed, group_of, open_data, own_store, split_in_words, wild_clips
from facestudy.study.release import released_file
from facestudy.study.runs import checkpoints_dir, plan, runs_dir
from facestudy.study.scores import TIMINGS
from facestudy.study.study import study
from facestudy.nets import load_net, net_meta
from test_clips import film

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
    assert table.system.tolist() == ['suggested', 'few_shot', 'landmarker']            # copy-source learned nothing
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

def measured_in(folder, threads, monkeypatch):
    "Rows of the released weights, measured anew as on a machine with so many cores; and the processes they came from"
    monkeypatch.setenv('FACESTUDY_RUNS', str(folder))
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    said = []
    monkeypatch.setattr('facestudy.study.study.progress', lambda **kw: said.append(kw['desc']) or progress(**kw))
    return study('smoke', NAMES[1:], device='cpu', released=True),said

def test_side_by_side_is_as_one_after_the_other(shipped, tmp_path, monkeypatch):
    "Two processes leave the very rows, lines and frames that one leaves, in the registry's order"
    (two,said),(one,silent) = (measured_in(tmp_path/str(n), n, monkeypatch) for n in (2, 1))
    assert (said, silent) == (['measuring in 2 processes'], [])
    pd.testing.assert_frame_equal(two.drop(columns=TIMINGS), one.drop(columns=TIMINGS), check_exact=True)
    assert list(two.system.unique()) == NAMES[1:] and two.measured_on.str.endswith('other systems beside it').all()
    for run in two.run.unique():
        assert (tmp_path/'2'/run/'takes.csv').read_bytes() == (tmp_path/'1'/run/'takes.csv').read_bytes()
        a,b = (np.load(tmp_path/n/run/'samples.npz') for n in '12')
        assert all((a[k] == b[k]).all() for k in a) and set(a) == set(b)
    assert measured_in(tmp_path/'2', 2, monkeypatch)[1] == []                  # read, and no process was started

def test_an_error_in_one_process_names_the_system(shipped, tmp_path, monkeypatch):
    for f in checkpoints_dir().iterdir(): shutil.copy(f, tmp_path)
    monkeypatch.setenv('FACESTUDY_CHECKPOINTS', str(tmp_path))
    bad = tmp_path/'few_shot.safetensors'
    bad.write_bytes(bad.read_bytes()[:-8]+bytes(8))                            # the header still reads well
    with pytest.raises(InputError, match=r'^few_shot: .*few_shot\.safetensors: .*damaged'):
        measured_in(tmp_path/'runs', 2, monkeypatch)

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

# weights that know the clips of a folder too

MANIFEST = """name,identity,split,licence,source,notes
ann,ann,train,MIT (a|b),https://example.org/ann,dark
bob,bob,train,Apache-2.0; origin not stated,/disk/films/bob.mp4,
cyd,cyd,val,CC BY 4.0,,
dee,dee,train,GPL-3.0,,
"""

@pytest.fixture(scope='module')
def wild(embedded, people, tmp_path_factory):
    "A system trained on a folder's clips too, and released; no study weights are there"
    d = tmp_path_factory.mktemp('wild')
    (d/'clips').mkdir()
    (d/'clips'/'manifest.csv').write_text(MANIFEST)
    for i,name in enumerate(['ann', 'bob', 'cyd', 'dee']): write_video(d/'clips'/f'{name}.mp4', film(dx=i-1), 25)
    with pytest.MonkeyPatch.context() as m:
        m.setenv('FACESTUDY_RUNS', str(d/'runs'))
        m.setenv('FACESTUDY_CHECKPOINTS', str(d/'checkpoints'))
        rows = study('smoke', ['improved'], wild_clips(d/'clips'), device='cpu', steps=2)
        table = release('smoke', ['improved'], wild_clips(d/'clips'))
        m.setenv('FACESTUDY_RUNS', str(d/'none'))                              # a newcomer has the files alone
        yield d,rows,table
    made = (32, 'free'), (32, 'clear'), (64, 'free')                            # 64: the larger side of smoke
    for size,licences in made: shutil.rmtree(own_store(d/'clips', size, licences).folder)

def test_wild_data(wild, embedded):
    "Half of a batch is rendered; the other half draws from embedded and own clips as one crowd"
    d,rows,_ = wild
    store = open_data('smoke', wild_clips(d/'clips'))
    segments = store.segments('train')
    assert {s.group for s in segments} == {'real', 'parametric'}
    filmed = {s.identity for s in segments if s.group == 'real'}
    assert filmed == {'ann', 'bob', *embedded.table.identity}                  # neither the test's nor the refused
    assert 'tested on 1 clips of 1 people never seen in training' in split_in_words(store)
    assert set(rows['clip'][rows['test'] == 'real']) == {'cyd'}                # a stranger, and the others are not
    assert set(rows['clip'][rows['test'] == 'familiar']) == set(embedded.table.name)
    without = open_data('smoke', wild_clips(d/'clips'), parametric=False)
    assert {s.group for s in without.segments('train')} == {'real'} and group_of(without, 'real').size == 32
    assert len({store.digest, without.digest, open_data('smoke', wild_clips(d/'clips', 'clear')).digest}) == 3

def test_wild_weights_have_a_place_and_a_card_of_their_own(wild):
    d,_,table = wild
    assert table.system.tolist() == ['improved']                               # aids travel with the study weights
    assert {f.relative_to(d/'checkpoints').as_posix() for f in (d/'checkpoints').rglob('*.*')} == {
        'wild/improved.safetensors', 'wild/improved.md'}
    clips = net_meta(d/'checkpoints'/'wild'/'improved.safetensors', 'system')['clips']
    assert [c['name'] for c in clips] == ['ann', 'bob', 'cyd']
    text = (d/'checkpoints'/'wild'/'improved.md').read_text()
    for line in ('| ann | ann | train | MIT (a/b) | https://example.org/ann | dark |',
                 '| bob | bob | train | Apache-2.0; origin not stated |  |  |',
                 '| cyd | cyd | test | CC BY 4.0 |  |  |'):
        assert line in text
    assert 'cannot be rebuilt from package names' in ' '.join(text.split()) and '3 clips of 3 people' in text
    assert '| dee |' not in text and '/disk' not in text and str(d) not in text

def test_only_free_clips_are_released(wild):
    "Neither a folder as it is, nor one of which any licence was taken"
    d,_,_ = wild
    for clips in (str(d/'clips'), Filmed(str(d/'clips'), 'free'), wild_clips(d/'clips', 'any')):
        with pytest.raises(InputError, match='--licences free or clear'): release('smoke', ['improved'], clips)
    with pytest.raises(InputError, match='--systems improved --wild --clips DIR'):
        release('smoke', ['improved'], wild_clips(d/'clips', 'clear'))         # other data: nobody trained on them

def test_both_sets_count_for_the_limit(wild, monkeypatch):
    monkeypatch.setenv('FACESTUDY_RUNS', str(wild[0]/'runs'))
    monkeypatch.setattr('facestudy.study.release.LIMIT', 1000)
    with pytest.raises(InputError, match='the limit'): release('smoke', ['improved'], wild_clips(wild[0]/'clips'))

def test_wild_comes_before_study_and_its_absence_is_told(wild, capsys):
    d,_,_ = wild
    kept,other = d/'checkpoints'/'wild'/'improved.safetensors',d/'checkpoints'/'improved.safetensors'
    assert find_system('improved') == find_system('improved', 'wild') == kept
    with pytest.raises(InputError, match=r'no study weights .* \(released: wild\)'): find_system('improved', 'study')
    shutil.copy(kept, other)
    assert find_system('improved') == kept and find_system('improved', 'study') == other
    assert capsys.readouterr().err == ''
    kept.rename(d/'away')
    try:
        assert find_system('improved') == other
        assert 'improved: it has no wild weights, so its study weights are used' in capsys.readouterr().err
        assert find_system('improved', 'study') == other and capsys.readouterr().err == ''
        with pytest.raises(InputError, match=r'no wild weights .* \(released: study\)'): find_system('improved', 'wild')
    finally:
        (d/'away').rename(kept)
        other.unlink()

def test_what_was_trained_here_comes_first(wild, monkeypatch):
    d,_,_ = wild
    monkeypatch.setenv('FACESTUDY_RUNS', str(d/'mine'))
    own = d/'mine'/'quick-improved-1'/'system.safetensors'
    own.parent.mkdir(parents=True)
    shutil.copy(d/'checkpoints'/'wild'/'improved.safetensors', own)
    assert find_system('improved') == own and find_system('improved', 'wild') != own

def test_released_by_the_command(wild, capsys, monkeypatch):
    d,_,_ = wild
    monkeypatch.setenv('FACESTUDY_RUNS', str(d/'runs'))
    assert cli.main(['release', '--profile', 'smoke', '--wild', '--clips', str(d/'clips')]) == 0
    assert 'improved' in capsys.readouterr().out
