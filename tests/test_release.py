"Weights that travel: written from finished runs, measured again, told apart from those trained here"
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from facestudy import cli
from facestudy.core import InputError, load_tensors, progress
from facestudy.cli import find_system
from facestudy.media import write_video
from facestudy.study.release import finished, release
from facestudy.pages.report import report
from facestudy.study.data import Filmed, group_of, open_data, own_store, split_in_words, wild_clips
from facestudy.study.release import released_file
from facestudy.study.runs import checkpoints_dir, plan, runs_dir
from facestudy.study.scores import TIMINGS
from facestudy.study.study import provenance, study, trainer_of, write_best
from facestudy.nets import is_judge, load_net, net_meta, save_net
from conftest import short_curve
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
    matrices = {k: v for k,v in tensors.items() if v.ndim > 1}
    assert {str(v.dtype) for v in matrices.values()} == {'torch.int8'}                 # nothing of it is short or fixed
    assert all(tensors[f'{k}.step'].shape == v.shape[:1] for k,v in matrices.items())
    assert meta['log'][0]['step'] == 0 and meta['log'][-1]['step'] == meta['steps'] == 6

def test_the_card_says_how_it_was_made(shipped):
    d,rows,_ = shipped
    text = (checkpoints_dir()/'few_shot.md').read_text()
    meta = net_meta(checkpoints_dir()/'few_shot.safetensors', 'system')
    for word in (meta['run'], meta['data'], meta['device'], 'Apache-2.0', 'parametric cross', '12 pairs',
                 '0, as planned beforehand: the lowest of the runs on these data (1)'):
        assert word in text, word
    psnr = rows[(rows.system == 'few_shot') & (rows.test == 'real')].groupby('clip').psnr.mean().mean()
    assert f'| real | {psnr:.2f} |' in text and 'goes on' not in text

def test_releasing_twice_gives_the_same_file(shipped):
    path = checkpoints_dir()/'suggested.safetensors'
    before = path.read_bytes(),path.with_suffix('.md').read_bytes()
    release('smoke', ['suggested'])
    assert (path.read_bytes(), path.with_suffix('.md').read_bytes()) == before

def test_released_weights_score_what_the_run_scored(shipped):
    "Eight bits move a frame by hundredths of a decibel; the rows say which weights they are of"
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

def test_the_lowest_seed_of_several_runs(shipped):
    "Of one seed the longest training, whatever any of them scored"
    study('smoke', ['suggested'], device='cpu', steps=2)
    study('smoke', ['suggested'], device='cpu', seed=1, steps=7)
    data = open_data('smoke').digest
    found = finished('suggested', 'smoke', data)
    assert [(o.seed, o.steps) for o in found] == [(0, 6), (0, 2), (1, 7)]
    assert [(o.seed, o.steps) for o in finished('suggested', 'smoke', data, seed=1)] == [(1, 7)]
    assert finished('suggested', 'smoke', 'other data') == finished('suggested', 'smoke', data, seed=2) == []
    assert release('smoke', ['suggested'], seed=1).seed[0] == 1
    line = release('smoke', ['suggested']).iloc[0]
    assert (line.runs, line.seed, line.steps, line.planned) == (3, 0, 6, 6)
    assert '(3); no score chose it' in (checkpoints_dir()/'suggested.md').read_text()

# a training that goes on

def stopped(system, at, seed=0, **overrides):
    "A training of the smoke study that was stopped after so many steps; the trainer, its run"
    store = open_data('smoke')
    run = plan(system, 'smoke', store, seed, **overrides)
    trainer = trainer_of(run, store, 'cpu')
    trainer.sample = short_curve(group_of(store, 'real'))
    trainer.measure()
    trainer.run(runs_dir()/run.id/'training.safetensors', measure_every=2, until=at)
    return run,trainer

@pytest.fixture(scope='module')
def going(embedded, people, tmp_path_factory):
    "Two trainings that were stopped, one with averaged weights and one without, released so far"
    d = tmp_path_factory.mktemp('going')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('FACESTUDY_RUNS', str(d/'runs'))
        m.setenv('FACESTUDY_CHECKPOINTS', str(d/'checkpoints'))
        made = {s: stopped(s, 3) for s in ('suggested', 'suggested_shared')}
        run,trainer = made['suggested_shared']
        write_best(run, trainer, runs_dir()/run.id)                            # as when a command's time is over
        yield made,release('smoke', list(made), so_far=True)

@pytest.mark.parametrize('system', ['suggested', 'suggested_shared'])
def test_a_training_that_goes_on_is_released_as_far_as_it_is(going, system):
    "With its averaged weights if it averages, else with the latest"
    made,table = going
    run,trainer = made[system]
    file = checkpoints_dir()/f'{system}.safetensors'
    with trainer.averaged() as live: weights = {k: v.clone() for k,v in live.state_dict().items()}
    assert bool(trainer.average) == (system == 'suggested_shared')
    tensors,back = load_tensors(file)[0],load_net(file, 'system').state_dict()
    for k in [k for k in back if not is_judge(k)]:
        rounding = tensors[f'{k}.step'].max() if f'{k}.step' in tensors else 0.
        assert (back[k]-weights[k]).abs().max() <= .51*rounding, k
    meta = net_meta(file, 'system')
    assert (meta['run'], meta['steps'], meta['planned'], meta['seed']) == (run.id, 3, 6, 0)
    assert [line['step'] for line in meta['log']] == [0, 2] and meta['seconds'] == round(trainer.seconds, 1)
    text = file.with_suffix('.md').read_text()
    assert 'stopped at step 3 of 6 so far; the training goes on' in text and 'dB at step 2 |' in text
    assert 'Table 1 measures these weights' in text and '| real |' not in text and 'nan' not in text
    line = table[table.system == system].iloc[0]
    assert (line.steps, line.planned, line.runs) == (3, 6, 1) and np.isnan(line['PSNR real'])

def test_its_header_is_that_of_a_finished_run(going):
    "But for the end, it says what the training itself would have said; without its best weights the machine is not known"
    made,_ = going
    for system,(run,trainer) in made.items():
        said = provenance(run, trainer, pd.DataFrame(trainer.log)) | {'planned': 6}
        meta = net_meta(checkpoints_dir()/f'{system}.safetensors', 'system')
        if system == 'suggested': said |= {'device': 'not noted yet', 'versions': 'not noted yet'}
        assert {k: meta[k] for k in said} == json.loads(json.dumps(said))

def test_rows_of_a_training_that_goes_on(going):
    "Table 1 measures what was released, and says how many steps made it"
    rows = study('smoke', ['suggested_shared'], device='cpu', released=True)
    assert set(rows.weights) == {'released'} and set(rows.steps) == {3} and rows.psnr.notna().all()

def test_so_far_takes_what_has_come_furthest(going, monkeypatch, tmp_path):
    "A finished run as it is, though nobody measured it; not a longer one of another seed, nor one of other settings"
    made,_ = going
    shutil.copytree(runs_dir(), tmp_path/'runs')
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    monkeypatch.setenv('FACESTUDY_CHECKPOINTS', str(tmp_path/'checkpoints'))
    run,trainer = stopped('suggested', 6)
    with trainer.averaged() as system:
        save_net(runs_dir()/run.id/'system.safetensors', system, 'system',
                 **provenance(run, trainer, pd.DataFrame(trainer.log)))
    stopped('suggested', 8, steps=9, seed=1)
    shutil.copytree(runs_dir()/run.id, runs_dir()/'smoke-suggested-0123456789')
    line = release('smoke', ['suggested'], so_far=True).iloc[0]
    assert (line.runs, line.seed, line.steps, line.planned) == (2, 0, 6, 6)
    assert 'goes on' not in (checkpoints_dir()/'suggested.md').read_text()
    line = release('smoke', ['suggested'], so_far=True, seed=1).iloc[0]
    assert (line.runs, line.seed, line.steps, line.planned) == (1, 1, 8, 9)
    with pytest.raises(InputError, match='no finished run'): release('smoke', ['suggested'])     # it was not measured

def test_nothing_to_release_so_far(going, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    assert cli.main(['release', '--so-far', '--systems', 'suggested', '--profile', 'smoke', '--seed', '3']) == 1
    said = capsys.readouterr().err
    assert 'suggested: no training that has done a step' in said
    assert '`facestudy study --profile smoke --systems suggested --seed 3 --minutes 30`' in said

def test_a_damaged_checkpoint_is_told(going, monkeypatch, tmp_path):
    made,_ = going
    run,_ = made['suggested']
    shutil.copytree(runs_dir()/run.id, tmp_path/run.id)
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    file = tmp_path/run.id/'training.safetensors'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match='training.safetensors: the file is damaged'):
        release('smoke', ['suggested'], so_far=True)

def test_released_so_far_by_the_command(going, capsys):
    assert cli.main(['release', '--so-far', '--systems', 'suggested_shared', '--profile', 'smoke']) == 0
    header,line = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[:6] == ['system', 'MB', 'runs', 'seed', 'steps', 'planned']
    assert line.split()[0] == 'suggested_shared' and line.split()[2:] == ['1', '0', '3', '6', '-']

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
