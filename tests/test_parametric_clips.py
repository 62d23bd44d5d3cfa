"Stores of rendered people: facestudy.people.clips"
import json
from dataclasses import fields

import numpy as np
import pytest

from facestudy.data.clips import ClipStore
from facestudy.core import InputError
from facestudy.people.clips import ParametricStore, parametric_plan, parametric_store
from facestudy.people.motion import Motion, talking_motion

SMALL = dict(identities=5, motions=4, frames=4, size=32, unseen=(2, 2), each=1)

@pytest.fixture(scope='module')
def store(tmp_path_factory):
    "Seven clips of five people; skipped only where the package index is out of reach"
    try: return parametric_store(tmp_path_factory.mktemp('people'), workers=1, **SMALL)
    except InputError as e:
        if 'package index' not in str(e): raise
        pytest.skip(f'no head on this machine: {e}')


@pytest.mark.parametrize('n,m,each', [(10, 10, 2), (30, 26, 2), (5, 20, 3), (40, 6, 4)])
def test_plan_is_disjoint_by_person_and_by_motion(n, m, each):
    p = parametric_plan(n, m, each)
    train,test = p[p.split == 'train'],p[p.split == 'test']
    for o in ('identity', 'motion', 'person', 'what'): assert not set(train[o]) & set(test[o])
    assert p.name.is_unique and (p.name == p.identity+'-'+p.motion).all()
    assert len(test) == test.identity.nunique()*test.motion.nunique()             # a full grid
    assert p.identity.nunique() == n and (train.groupby('identity').size() == min(each, m-test.motion.nunique())).all()
    assert not set(p.name) & set(parametric_plan(n, m, each, seed=1).name)

@pytest.mark.parametrize('args', [(2, 10), (10, 2), (10, 10, 0), (10, 10, 2, (10, 1)), (10, 10, 2, (0, 1)), (2000, 10)])
def test_plans_that_cannot_be(args):
    with pytest.raises(InputError): parametric_plan(*args)

def test_it_is_a_clip_store(store):
    assert isinstance(store, ClipStore) and ClipStore(store.folder).digest == store.digest and store.current
    assert len(store.table) == 3+4 and set(store.table.split) == {'train', 'test'} and (store.table.face_found > .5).mean() > .8
    for n in store.table.name:
        assert store.frames(n).shape == (4, 32, 32, 3) and store.frames(n).dtype == np.uint8 and store.frames(n).std() > 10
        assert store.faces(n).shape == (4, 4) and store.points(n).shape == (4, 3, 2) and not store.hidden(n).any()
    assert len(store.segments('train')) == 3 and len(store.segments('test')) == 4
    store.verify()

def test_truth_is_that_of_the_frames(store):
    for n in store.table.name:
        t = store.truth(n)
        assert t.labels.shape == (4, 32, 32) and t.labels.dtype == np.uint8 and t.landmarks.shape == (4, 68, 2) and t.visible.shape == (4, 68)
        assert t.depth is None and t.canonical is None
        box = store.faces(n)
        known = np.isfinite(box).all(1)
        centre = (box[:, :2]+1)/2*31
        assert np.linalg.norm(t.landmarks[known][:, 30]-centre[known], axis=-1).max() < 8    # the nose is about where the box is
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

def test_resumes_and_repairs(store):
    when = lambda: {f.name: f.stat().st_mtime_ns for f in store.folder.glob('*.npy')}
    before = when()
    assert parametric_store(store.folder, workers=1, **SMALL).digest == store.digest and when() == before
    n = store.table.name[2]
    (store.folder/f'{n}.npy').unlink()
    assert parametric_store(store.folder, workers=1, **SMALL).digest == store.digest
    assert {k for k,v in when().items() if v != before[k]} == {f'{n}.npy'}
    (store.folder/f'{n}.json').write_text('{')                                     # a record that was cut off
    assert parametric_store(store.folder, workers=1, **SMALL).digest == store.digest

def test_parallel_and_elsewhere_is_the_same(store, tmp_path):
    b = parametric_store(tmp_path/'b', workers=2, **SMALL)
    assert b.digest == store.digest and list(b.table.truth_sha256) == list(store.table.truth_sha256)

def test_damage_is_named(store, tmp_path):
    import shutil
    shutil.copytree(store.folder, tmp_path/'c')
    c,n = ParametricStore(tmp_path/'c'),store.table.name[0]
    (tmp_path/'c'/f'{n}.truth.npz').write_bytes(b'x'*100)
    with pytest.raises(InputError, match=n): c.truth(n)
    shutil.copy(store.folder/f'{store.table.name[1]}.truth.npz', tmp_path/'c'/f'{n}.truth.npz')
    with pytest.raises(InputError, match='was changed'): ParametricStore(tmp_path/'c').verify()

def test_other_stores_are_refused(store, tmp_path):
    import shutil
    shutil.copytree(store.folder, tmp_path/'d')
    meta = json.loads((tmp_path/'d'/'store.json').read_text()); del meta['parametric']
    (tmp_path/'d'/'store.json').write_text(json.dumps(meta))
    with pytest.raises(InputError, match='no rendered people'): ParametricStore(tmp_path/'d')
    with pytest.raises(InputError, match='no clip store'): ParametricStore(tmp_path/'nowhere')

def test_dense(tmp_path, store):
    d = parametric_store(tmp_path/'e', identities=3, motions=3, frames=2, size=24, unseen=(1, 1), each=1, dense=True, workers=1)
    t = d.truth(d.table.name[0])
    assert d.dense and t.depth.shape == (2, 24, 24) and t.canonical.shape == (2, 24, 24, 3)

@pytest.mark.parametrize('kw', [dict(size=8), dict(size=2000), dict(frames=1), dict(identities=1)])
def test_numbers_out_of_range(tmp_path, kw):
    with pytest.raises(InputError): parametric_store(tmp_path, **{**SMALL, **kw})
