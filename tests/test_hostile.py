"""Whatever a file from outside holds: a result or one sentence, and never anything else

Hypothesis makes the files up. Its draws are fixed, so a run says the same everywhere.
"""
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st
from safetensors.torch import save
from torch import nn

from facestudy import animate
from facestudy.core import InputError, load_tensors, save_tensors
from facestudy.data import prepare
from facestudy.data.clips import ClipStore, arrays_hash, note_row, video_jobs, write_clip, write_table
from facestudy.data.licences import allowed_jobs
from facestudy.method.superres import SuperResolution
from facestudy.nets import load_net, net_meta, save_net
from facestudy.people.head import EXPRESSIONS
from facestudy.puppet import read_motion
from facestudy.study.scores import kept_rows, seal
from facestudy.study.stored import read_rows, write_rows
from facestudy.training.recipe import Recipe
from facestudy.training.system import System
from facestudy.training.trainer import Resumable

def hostile(examples):
    "A property that holds for so many made-up files"
    calm = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]      # one folder serves all files of a test
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=calm)


# files that somebody broke

CHANGES = st.lists(st.tuples(st.sampled_from(['flip', 'cut', 'drop', 'put']), st.floats(0, 1), st.binary(max_size=9)),
                   min_size=1, max_size=4)

def broken(whole, changes):
    "A file's bytes with some flipped, cut off, dropped or put in"
    data = bytearray(whole)
    for how,share,extra in changes:
        at = int(share*max(0, len(data)-1))
        if how == 'flip' and data: data[at] ^= (extra[:1] or b'\1')[0]
        if how == 'cut': del data[at:]
        if how == 'drop': del data[at:at+1+len(extra)]
        if how == 'put': data[at:at] = extra
    return bytes(data)

def changed(what, whole):
    "The bytes of a file: other ones, some JSON, or the right ones with changes"
    if isinstance(what, bytes): return what
    changes = isinstance(what, list) and all(isinstance(o, tuple) for o in what)
    return broken(whole, what) if changes else json.dumps(what).encode()

def or_refused(f, *args):
    "What `f` gives; None where it raises `InputError`, with a sentence that can be printed"
    try: return f(*args)
    except InputError as e:
        assert str(e).rstrip().endswith('.') and str(e).encode('utf-8', 'backslashreplace')
        return None

TEXT = st.text(st.characters(codec='utf-8'), max_size=12)
NUMBER = st.one_of(st.integers(-10**12, 10**12), st.floats(), st.sampled_from([0, 1, -1, 2, 64, 1e9, 10**30]))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBER, TEXT)
JSON = st.recursive(PLAIN, lambda o: st.lists(o, max_size=3) | st.dictionaries(TEXT, o, max_size=3), max_leaves=6)
CELL = st.one_of(NUMBER.map(str), TEXT, st.sampled_from(['', 'nan', 'inf', '"', '../../evil', '\x00', 'True', '1e400']))

def tables(*columns):
    "CSV files: the right columns or others, and anything in them"
    names = st.one_of(st.just(list(columns)), st.lists(st.one_of(st.sampled_from(columns), TEXT), max_size=8))
    def rows(head): return st.lists(st.lists(CELL, min_size=max(0, len(head)-1), max_size=len(head)+1), max_size=4)
    def text(head, body): return '\n'.join(','.join(r) for r in [head, *body]).encode('utf-8', 'surrogatepass')
    structured = names.flatmap(lambda head: rows(head).map(lambda body: text(head, body)))
    return st.one_of(structured, st.binary(max_size=60), TEXT.map(str.encode))


# checkpoints

@pytest.fixture(scope='module')
def net(tmp_path_factory):
    "The smallest network of the package, its file, and the file's bytes"
    file = tmp_path_factory.mktemp('net')/'w.safetensors'
    torch.manual_seed(0)
    save_net(file, SuperResolution(4), 'superres', steps=5)
    return SimpleNamespace(file=file, whole=file.read_bytes(), weights=load_tensors(file)[0], meta=net_meta(file))

def check_same(net, found):
    "A network that was loaded from a broken file is the one that was stored"
    assert found.config == net.meta['config'] and found.name == net.meta['name']
    for k,v in found.state_dict().items(): assert torch.equal(v, net.weights[k]), k

@hostile(120)
@given(changes=CHANGES)
def test_a_broken_checkpoint_is_refused_or_unharmed(net, changes):
    net.file.write_bytes(broken(net.whole, changes))
    found = or_refused(load_net, net.file, 'superres')
    if found is not None: check_same(net, found)

@hostile(60)
@given(bits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=200, unique=True))
def test_no_bit_of_the_weights_flips_unnoticed(net, bits):
    data = bytearray(net.whole)
    body = len(data)-sum(v.numel()*v.element_size() for v in net.weights.values())
    for at,bit in bits: data[body+at % (len(data)-body)] ^= 1 << bit
    net.file.write_bytes(data)
    assert bytes(data) == net.whole or or_refused(load_net, net.file) is None

ENTRIES = st.sampled_from(['kind', 'class', 'name', 'version', 'config', 'width', 'scale'])

@hostile(120)
@given(entry=ENTRIES, value=JSON, drop=st.booleans())
@example('config', None, True)
@example('scale', 0, False)
@example('width', -1, False)
@example('width', 1e9, False)
@example('width', 4096, False)
@example('name', '../../evil', False)
@example('class', 'facestudy.systems.suggested:Suggested', False)
@example('class', 'facestudy.training.system:System', False)
def test_any_header_is_understood_or_refused(net, entry, value, drop):
    meta = dict(net.meta, config=dict(net.meta['config']))
    holder = meta['config'] if entry in meta['config'] else meta
    if drop: del holder[entry]
    else: holder[entry] = value
    save_tensors(net.file, net.weights, meta)
    if (found := or_refused(load_net, net.file)) is None: return
    assert '/' not in found.name and found.config == json.loads(json.dumps(meta['config']))
    for k,v in found.state_dict().items(): assert torch.equal(v, net.weights[k])

@hostile(60)
@given(text=st.one_of(TEXT, JSON.map(json.dumps), st.just('['*100000)))
def test_any_header_text(net, text):
    net.file.write_bytes(save(net.weights, {'facestudy': text}))
    assert or_refused(load_net, net.file) is None and or_refused(net_meta, net.file) is None

class Line(System):
    "A system that trains in no time"
    name = 'line'
    def __init__(self):
        super().__init__(16)
        self.net = nn.Linear(2, 2)
    def players(self): return {'net': [self.net]}

@hostile(60)
@given(entry=st.sampled_from(['state', 'step', 'log', 'seconds', 'smooth', 'recipe', 'items']), value=JSON)
def test_any_state_of_a_training(tmp_path, entry, value):
    def fresh(): return Resumable(Line(), SimpleNamespace(digest='toy'), Recipe(), device='cpu')
    file = tmp_path/'state.safetensors'
    fresh().save(file)
    tensors,meta = load_tensors(file)
    (meta['state'] if entry == 'items' else meta)[entry] = value
    save_tensors(file, tensors, meta)
    or_refused(fresh().load, file)


# motions

OURS = tables('time', 'yaw', 'pitch', *EXPRESSIONS[:3])
THEIRS = tables('Timecode', 'JawOpen', 'HeadYaw', 'eyeBlink_L')

@hostile(150)
@given(data=st.one_of(OURS, THEIRS))
@example(b'JawOpen\n1e400\n')
@example('JawOpen,caf\xe9\n1,2\n'.encode('latin-1'))
@example(b'JawOpen,jawOpen\n1,2\n')
@example(b'time,jawOpen\n0,1\n0,1\n')
def test_any_table_is_a_motion_or_refused(tmp_path, data):
    file = tmp_path/'take.csv'
    file.write_bytes(data)
    if (m := or_refused(read_motion, file)) is None: return
    parts = m.weights,m.head,m.gaze,m.shift
    assert len({len(o) for o in parts}) == 1 and len(m) and np.isfinite(m.fps) and m.fps > 0
    assert all(np.isfinite(o).all() for o in parts)


# lists, manifests and notes of prepare

LIST = 'video_id start end bbox fps width height partition person_id'.split()
GOOD = 'v,0,5,0-0-9-9,25,80,60,train,p'

ODD = st.sampled_from(['', '-1', 'nan', '1e99', '../v', '0-0-9', '9.5', '#'])
NEARLY = st.tuples(*(st.one_of(st.just(o), st.just(o), ODD) for o in GOOD.split(',')))      # most cells are right

def listed(row): return f'{",".join(LIST)}\n{",".join(row)}\n'.encode()

@hostile(150)
@given(data=st.one_of(tables(*LIST), NEARLY.map(listed)))
@example(f'{",".join(LIST)}\n'.encode())
@example(f'{",".join(LIST)}\n{GOOD}\n{GOOD}\n'.encode())
def test_any_list_stays_inside(tmp_path, data):
    file,out = tmp_path/'list.csv',tmp_path/'out'
    file.write_bytes(data)
    if (rows := or_refused(prepare.read_metadata, file)) is None: return
    names = [prepare._named({}, o)['base'] for o in rows.to_dict('records')]
    assert all((out/n).resolve().parent == out.resolve() for n in names) and len(set(names)) == len(names)
    video = SimpleNamespace(size=(60, 80), fps=25.)
    for o in rows.to_dict('records'): assert prepare._scaled(o, video).stop > 0

SETTINGS = {'size': 64, 'margin': .25}
ROW = dict.fromkeys(prepare.FIELDS, '') | dict(name='a#000.mp4', source='a.mp4', start=0, end=9, frames=9, fps=25.,
                                               status='kept')
ABSENT = st.just(None)

@hostile(120)
@given(manifest=st.one_of(ABSENT, tables(*prepare.FIELDS), CHANGES), note=st.one_of(ABSENT, JSON, CHANGES),
       journal=st.one_of(ABSENT, st.binary(max_size=40), JSON, CHANGES))
@example(None, None, [[1, 2]])
@example(None, {'size': 64}, None)
def test_any_notes_of_an_earlier_call(tmp_path, manifest, note, journal):
    table = pd.DataFrame([ROW], columns=prepare.FIELDS).to_csv(index=False).encode()
    whole = {'manifest.csv': (manifest, table), '.journal.jsonl': (journal, json.dumps([ROW]).encode()),
             'prepare.json': (note, json.dumps(SETTINGS).encode())}
    for name,(what,good) in whole.items():
        (tmp_path/name).unlink(missing_ok=True)
        if what is not None: (tmp_path/name).write_bytes(changed(what, good))
    m = or_refused(prepare.Manifest, tmp_path, SETTINGS)
    if m is not None: assert list(m.table()) == prepare.FIELDS

MANIFEST = tables('name', 'identity', 'split', 'source', 'licence', 'notes')

@hostile(80)
@given(data=MANIFEST, licences=st.sampled_from(['any', 'free', 'clear']))
def test_any_manifest_of_clips(tmp_path, data, licences):
    for n in 'ab': (tmp_path/f'{n}.mp4').write_bytes(b'no film')
    (tmp_path/'manifest.csv').write_bytes(data)
    jobs = or_refused(video_jobs, tmp_path)
    if jobs is not None: or_refused(allowed_jobs, jobs, licences)
    if jobs is not None: assert set(jobs.path) <= {'', *(str(tmp_path/f'{n}.mp4') for n in 'ab')}


# stored rows and stores

@hostile(80)
@given(rows=st.one_of(CHANGES, tables('clip', 'frame', 'psnr', 'ssim')), note=st.one_of(st.just([]), CHANGES, JSON))
def test_rebuilt_rows_are_believed_only_as_they_were(tmp_path, rows, note):
    good = {'a': pd.DataFrame({'clip': 'a', 'frame': [1, 2], 'psnr': [30.123456789, 31], 'ssim': [.9, .8]})}
    (tmp_path/'a.mp4').touch()
    animate._save(tmp_path, good, {'a': 'key'})
    assert set(animate._done(tmp_path, {'a': 'key'})) == {'a'} and animate._done(tmp_path, {'a': 'other'}) == {}
    for name,what in (('rows.csv', rows), (animate._NOTE, note)):
        (tmp_path/name).write_bytes(changed(what, (tmp_path/name).read_bytes()))
    for r in animate._done(tmp_path, {'a': 'key'}).values(): assert r[good['a'].columns].equals(good['a'])

@hostile(60)
@given(changes=CHANGES, name=st.sampled_from(['rows.csv', 'takes.csv', 'samples.npz', 'measured.json']))
@pytest.mark.filterwarnings('ignore:.*it is measured again')
def test_measured_rows_are_believed_only_as_they_were(tmp_path, changes, name):
    good = pd.DataFrame({'system': ['x'], 'clip': ['a'], 'frame': [1], 'psnr': [30.5], 'ssim': [.9]})
    for f in ('takes.csv', 'samples.npz'): (tmp_path/f).write_bytes(b'made')
    good.to_csv(tmp_path/'rows.csv', index=False)
    seal(tmp_path)
    assert kept_rows(tmp_path).equals(good)
    (tmp_path/name).write_bytes(broken((tmp_path/name).read_bytes(), changes))
    found = kept_rows(tmp_path)
    assert found is None or found.equals(good)

@hostile(80)
@given(changes=CHANGES, which=st.sampled_from(['rows', 'systems', 'times']))
def test_any_stored_rows(tmp_path, changes, which):
    rows = pd.DataFrame({'system': ['x'], 'label': ['X'], 'clip': ['a'], 'frame': [1], 'psnr': [30.5], 'ssim': [.9],
                         'fps': [9.], 'steps': [5]})
    write_rows(tmp_path/'t.rows.csv', rows)
    file = tmp_path/f't.{which}.csv'
    file.write_bytes(broken(file.read_bytes(), changes))
    or_refused(read_rows, tmp_path/'t.rows.csv')

@pytest.fixture(scope='module')
def store(tmp_path_factory):
    "A store of one clip, and the bytes of its files"
    folder,rng = tmp_path_factory.mktemp('store'),np.random.default_rng(0)
    clip = {'frames': rng.integers(0, 255, (3, 16, 16, 3), np.uint8), 'faces': np.ones((3, 4), np.float32),
            'points': np.zeros((3, 3, 2), np.float32), 'confidence': np.ones(3, np.float32)}
    hidden = np.zeros(3, bool)
    write_clip(folder, {'name': 'a'}, clip, hidden)
    row = dict(name='a', identity='a', split='train', frames=3, fps=25., size=16, face_found=1., recipe='r', reason='',
               test_from=0, gap=0, sha256=arrays_hash(clip['frames']), faces_sha256=arrays_hash(clip['faces'], hidden))
    write_table(folder, pd.DataFrame([row]), 16, 'digest')
    note_row(folder, 'a', 'r', row)
    return SimpleNamespace(folder=folder, clip=clip, whole={f.name: f.read_bytes() for f in folder.iterdir()})

@hostile(120)
@given(changes=CHANGES, name=st.sampled_from(['a.npy', 'a.faces.npz', 'store.csv', 'store.json', 'a.json']))
def test_a_broken_store_is_refused_or_unharmed(store, changes, name):
    for file,data in store.whole.items(): (store.folder/file).write_bytes(data)
    (store.folder/name).write_bytes(broken(store.whole[name], changes))
    def read():
        s = ClipStore(store.folder)
        return {k: np.array(getattr(s, k)('a')) for k in store.clip}
    for k,v in (or_refused(read) or {}).items(): assert np.array_equal(v, store.clip[k]), k
