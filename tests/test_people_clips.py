"Stores of rendered people: facestudy.people.clips"
import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from facestudy.core import InputError
from facestudy.data.clips import ClipStore
from facestudy.people import clips
from facestudy.people.clips import (DRAWING, ParametricStore, drawing_files, parametric_plan, parametric_store,
                                    recipe_digest)
from facestudy.people.head import REGIONS
from facestudy.people.motion import Motion, talking_motion

SMALL = dict(identities=4, motions=4, frames=4, size=32, unseen=(2, 2), each=1)   # two train, two test: six clips
REFERENCE = Path(__file__).parent/'data'/'people_reference.npz'
TRUTHS = 'landmarks','gaze','eyes','head','position'

@pytest.fixture(scope='module')
def store(tmp_path_factory):
    "Six clips of four people; skipped only where the package index is out of reach"
    try: return parametric_store(tmp_path_factory.mktemp('people'), workers=1, **SMALL)
    except InputError as e:
        if 'package index' not in str(e): raise
        pytest.skip(f'no head on this machine: {e}')


# --- who does what

@pytest.mark.parametrize('n,m,each', [(10, 10, 2), (30, 26, 2), (5, 20, 3), (40, 6, 4)])
def test_plan_is_disjoint_by_person_and_by_motion(n, m, each):
    p = parametric_plan(n, m, each)
    train,test = p[p.split == 'train'],p[p.split == 'test']
    for o in ('identity', 'motion', 'person', 'what'): assert not set(train[o]) & set(test[o])
    assert p.name.is_unique and (p.name == p.identity+'-'+p.motion).all()
    assert len(test) == test.identity.nunique()*test.motion.nunique()             # a full grid
    assert p.identity.nunique() == n
    assert (train.groupby('identity').size() == min(each, m-test.motion.nunique())).all()
    assert not set(p.name) & set(parametric_plan(n, m, each, seed=1).name)

@pytest.mark.parametrize('args', [(2, 10), (10, 2), (10, 10, 0), (10, 10, 2, (10, 1)), (10, 10, 2, (0, 1)), (2000, 10)])
def test_plans_that_cannot_be(args):
    with pytest.raises(InputError): parametric_plan(*args)


# --- the name of a store

def planned(frames=4, fps=25, play=0., **kw):
    "A plan with all that `recipe_digest` needs"
    args = {k: SMALL[k] for k in ('identities', 'motions', 'unseen', 'each')} | kw
    return parametric_plan(**args).assign(frames=frames, fps=fps, play=play)

def test_the_digest_is_the_recipe(store, monkeypatch):
    mine = recipe_digest(planned(), 32, False)
    assert store.digest == mine == recipe_digest(planned(fps=25.), 32, False)
    others = [dict(frames=5), dict(fps=10), dict(play=.5), dict(seed=1), dict(each=2), dict(identities=5),
              dict(motions=5), dict(unseen=(2, 1))]
    digests = [recipe_digest(planned(**o), 32, False) for o in others]
    digests += [recipe_digest(planned(), 48, False), recipe_digest(planned(), 32, True)]
    monkeypatch.setattr(clips, 'DRAWING', DRAWING+1)
    digests.append(recipe_digest(planned(), 32, False))
    monkeypatch.setattr(clips, 'DRAWING', DRAWING)
    monkeypatch.setattr(clips, 'HEAD_RECIPE', ('anny', 'another'))
    digests.append(recipe_digest(planned(), 32, False))
    assert len({mine, *digests}) == 1+len(digests)

def test_the_digest_is_neither_pixels_nor_source(store, tmp_path, monkeypatch):
    shutil.copytree(store.folder, tmp_path/'b')
    monkeypatch.setattr(clips, 'drawing_code', lambda: 'reformatted')
    again = ParametricStore(tmp_path/'b')
    assert again.digest == store.digest and not again.current               # clips on disk are stale, the name stays
    table = json.loads((tmp_path/'b'/'store.json').read_text())['table']
    assert table != store.digest

def test_source_files_are_found():
    assert {'head.py', 'look.py', 'motion.py', 'render.py', 'skin.py', 'truth.py'} <= {o.name for o in drawing_files()}


# --- pictures and truth stay what they are

def some_of(store):
    "The first and last frame of every clip and the truth of both, as arrays by name"
    at,names = [0, -1],sorted(store.table.name)
    truths = [store.truth(n) for n in names]
    kept = {k: np.stack([getattr(o, k)[at] for o in truths]) for k in (*TRUTHS, 'visible', 'labels')}
    moves = np.stack([store.motion_of(n).weights[at] for n in names])
    return kept | {'frames': np.stack([store.frames(n)[at] for n in names]), 'weights': moves}

def differences(got, known):
    """What differs by more than another processor's rounding would, as a list of sentences.

    With all vector instructions of the processor switched off, one value in 40,000 is off by one grey level
    and landmarks move by 2e-6 pixels.
    """
    said = []
    off = np.abs(got['frames'].astype(int)-known['frames'])
    if off.mean() > .02: said.append(f'frames differ by {off.mean():.3f} grey levels on average')
    far_off = (off > 3).mean()
    if far_off > 5e-4: said.append(f'{far_off:.2%} of the values in the frames are more than 3 grey levels off')
    for k in ('labels', 'visible'):
        share = (got[k] != known[k]).mean()
        if share > 2e-3: said.append(f'{share:.2%} of {k} differ')
    for k in (*TRUTHS, 'weights'):
        far = np.abs(got[k]-known[k]).max()
        if far > 1e-3: said.append(f'{k} differ by up to {far:.2g}')
    return said

def test_pictures_and_truth_are_those_of_this_version(store):
    with np.load(REFERENCE) as z: known = dict(z)
    said = differences(some_of(store), known)
    how = f'make the reference again with `python tests/{Path(__file__).name}`'
    if known.pop('drawing') != DRAWING: pytest.fail(f'DRAWING is {DRAWING} now; {how}.')
    if said: pytest.fail(f'{"; ".join(said)}. If this was done on purpose, raise DRAWING in nbs/people/13_clips.ipynb '
                         f'and {how}; stores and all that was trained on them get new names then. If not, undo it.')

def test_a_small_change_is_noticed(store):
    with np.load(REFERENCE) as z: known = dict(z)
    eyes = known['labels'][..., None] == REGIONS.index('eyes')
    darker = np.where(eyes, known['frames']*.9, known['frames']).astype(np.uint8)        # by a tenth
    assert 'grey levels' in ' '.join(differences({**known, 'frames': darker}, known))
    assert 'landmarks' in ' '.join(differences({**known, 'landmarks': known['landmarks']+.01}, known))
    assert not differences(known, known)


# --- a clip store with more in it

def test_it_is_a_clip_store(store):
    assert isinstance(store, ClipStore) and ClipStore(store.folder).digest == store.digest and store.current
    assert len(store.table) == 2+4 and set(store.table.split) == {'train', 'test'}
    assert (store.table.face_found > .5).mean() > .8
    for n in store.table.name:
        frames = store.frames(n)
        assert frames.shape == (4, 32, 32, 3) and frames.dtype == np.uint8 and frames.std() > 10
        assert store.faces(n).shape == (4, 4) and store.points(n).shape == (4, 3, 2) and not store.hidden(n).any()
    assert len(store.segments('train')) == 2 and len(store.segments('test')) == 4
    store.verify()

def test_truth_is_that_of_the_frames(store):
    for n in store.table.name:
        t = store.truth(n)
        assert t.labels.shape == (4, 32, 32) and t.labels.dtype == np.uint8
        assert t.landmarks.shape == (4, 68, 2) and t.visible.shape == (4, 68)
        assert t.depth is None and t.canonical is None
        box = store.faces(n)
        known = np.isfinite(box).all(1)
        centre = (box[:, :2]+1)/2*31
        nose = t.landmarks[known][:, 30]
        assert np.linalg.norm(nose-centre[known], axis=-1).max() < 8                # about where the box is
    with pytest.raises(InputError, match='no clip'): store.truth('p999-m000')

def test_cross_pairs_share_motion_exactly(store):
    pairs = store.cross()
    assert len(pairs) == 4 and pairs == store.cross() and store.cross(1) == pairs[:1]
    for a,b in pairs:
        assert a.split('-')[0] != b.split('-')[0] and a.split('-')[1] == b.split('-')[1]
        x,y = store.motion_of(a),store.motion_of(b)
        assert all(np.array_equal(getattr(x, f.name), getattr(y, f.name)) for f in fields(Motion))
        assert np.abs(store.frames(a).astype(int)-store.frames(b)).mean() > 5               # and show two people
    assert {o for p in pairs for o in p} == set(store.table.name[store.table.split == 'test'])

def test_motion_of(store):
    row = store.table.iloc[0]
    m = store.motion_of(row['name'])
    assert np.array_equal(m.weights, talking_motion(int(row.motion[1:]), 4).weights) and m.fps == 25


# --- made once, made again, made elsewhere

def same(a, b):
    "Do two stores hold the same clips, to the last bit?"
    frames = all(np.array_equal(a.frames(n), b.frames(n)) for n in a.table.name)
    return a.digest == b.digest and a.table.equals(b.table) and frames

def test_resumes_and_repairs(store):
    def when(): return {f.name: f.stat().st_mtime_ns for f in store.folder.glob('*.npy')}
    before = when()
    assert same(parametric_store(store.folder, workers=1, **SMALL), store) and when() == before
    lost,cut = store.table.name[2],store.table.name[3]                             # of one person
    (store.folder/f'{lost}.npy').unlink()
    (store.folder/f'{cut}.json').write_text('{')                                   # a record that was cut off
    again = parametric_store(store.folder, workers=1, **SMALL)
    assert same(again, store)
    assert {k for k,v in when().items() if v != before[k]} == {f'{lost}.npy', f'{cut}.npy'}
    again.verify()

def test_parallel_and_elsewhere_is_the_same(store, tmp_path):
    b = parametric_store(tmp_path/'b', workers=2, **SMALL)
    assert same(b, store) and list(b.table.truth_sha256) == list(store.table.truth_sha256)

def test_damage_is_named(store, tmp_path):
    shutil.copytree(store.folder, tmp_path/'c')
    c,n = ParametricStore(tmp_path/'c'),store.table.name[0]
    (tmp_path/'c'/f'{n}.truth.npz').write_bytes(b'x'*100)
    with pytest.raises(InputError, match=n): c.truth(n)
    shutil.copy(store.folder/f'{store.table.name[1]}.truth.npz', tmp_path/'c'/f'{n}.truth.npz')
    with pytest.raises(InputError, match='was changed'): ParametricStore(tmp_path/'c').verify()

def test_a_table_changed_by_hand_is_refused(store, tmp_path):
    shutil.copytree(store.folder, tmp_path/'t')
    text = (tmp_path/'t'/'store.csv').read_text()
    (tmp_path/'t'/'store.csv').write_text(text.replace('train', 'test', 1))
    with pytest.raises(InputError, match='table was changed'): ParametricStore(tmp_path/'t')

def test_other_stores_are_refused(store, tmp_path):
    shutil.copytree(store.folder, tmp_path/'d')
    meta = json.loads((tmp_path/'d'/'store.json').read_text())
    del meta['parametric']
    (tmp_path/'d'/'store.json').write_text(json.dumps(meta))
    with pytest.raises(InputError, match='no rendered people'): ParametricStore(tmp_path/'d')
    with pytest.raises(InputError, match='no clip store'): ParametricStore(tmp_path/'nowhere')

def test_dense(tmp_path, store):
    few = dict(identities=2, motions=2, frames=2, size=24, unseen=(1, 1), each=1)
    d = parametric_store(tmp_path/'e', dense=True, workers=1, **few)
    t = d.truth(d.table.name[0])
    assert d.dense and t.depth.shape == (2, 24, 24) and t.canonical.shape == (2, 24, 24, 3)

@pytest.mark.parametrize('kw', [dict(size=8), dict(size=2000), dict(frames=1), dict(identities=1)])
def test_numbers_out_of_range(tmp_path, kw):
    with pytest.raises(InputError): parametric_store(tmp_path, **{**SMALL, **kw})


if __name__ == '__main__':                                                         # the reference, made again
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        made = some_of(parametric_store(folder, workers=1, **SMALL))
    REFERENCE.parent.mkdir(exist_ok=True)
    np.savez_compressed(REFERENCE, drawing=DRAWING, **made)
    print(f'{REFERENCE.name}: {REFERENCE.stat().st_size/1024:.0f} KB')
