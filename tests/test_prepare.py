"Face clips cut out of videos made here: what is kept, what is rejected and why, and going on after an interruption"
import json, os, signal, subprocess, sys, time

import numpy as np
import pandas as pd
import pytest
from skimage import data

from facestudy.data import prepare as module
from facestudy.core import InputError, sha256
from facestudy.media import Video, read_video, resize, write_video
from facestudy.data.prepare import FIELDS, Manifest, prepare, read_metadata, square, tubes, whose
from facestudy.data.landmarks import iou

HEAD = data.astronaut()[20:220, 120:320]
SMALL = dict(size=64, min_size=86, min_frames=12, workers=1)


def film(path, n=16, step=0., head=200, second=False, blank=(), left=60, top=50, shape=(300, 560)):
    im = resize(HEAD, head)
    out = np.full((n, *shape, 3), 120, np.uint8)
    for i in range(n):
        x = left+round(step*i)
        if i not in blank: out[i, top:top+head, max(x, 0):x+head] = im[:, max(-x, 0):]
        if second: out[i, 50:250, 320:520] = HEAD[:, ::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, out, 25)
    return path


def why(table): return dict(zip(table.name, table.reason.str.split(':').str[0]))


# the rules

def test_a_sequence_ends_when_it_moved_too_far():
    at = lambda x: (x, 0., 100., 100.)
    far = next(x for x in range(100) if iou(at(0), at(x)) < .25)
    assert far == 61                                             # 39/161 < 1/4 < 40/160
    assert [t[:2] for t in tubes([at(0), at(60), at(0)])] == [(0, 3)]
    assert [t[:2] for t in tubes([at(0), at(61), at(0)])] == [(0, 1), (1, 2), (2, 3)]
    assert tubes([at(0), at(60)])[0][2] == (0, 0, 160, 100)


def test_it_is_the_first_box_that_counts():
    slow = [(5.*i, 0., 100., 100.) for i in range(30)]           # neighbours always overlap by 90 %
    assert [t[:2] for t in tubes(slow)] == [(0, 13), (13, 26), (26, 30)]


@pytest.mark.parametrize('gap,want', [(4, [(0, 8)]), (5, [(0, 2), (7, 9)])])
def test_a_lost_face(gap, want):
    b = (0., 0., 10., 10.)
    assert [t[:2] for t in tubes([b]*2+[None]*gap+[b]*2)] == want


def test_longest_sequence():
    assert [t[1]-t[0] for t in tubes([(0., 0., 9., 9.)]*2500)] == [1024, 1024, 452]


@pytest.mark.parametrize('box', [(10., 20., 110., 60.), (0., 0., 33.3, 99.1)])
@pytest.mark.parametrize('margin', [0, .1, .25])
def test_square_holds_box_and_margin(box, margin):
    l,t,r,b = square(box, margin)
    m = margin*max(box[2]-box[0], box[3]-box[1])
    assert r-l == b-t and l <= box[0]-m+1 and t <= box[1]-m+1 and r >= box[2]+m-1 and b >= box[3]+m-1


# whole videos

def test_every_reason(tmp_path):
    d = tmp_path/'in'
    film(d/'good.mp4')
    film(d/'short.mp4', n=9)
    film(d/'small.mp4', head=160)
    film(d/'two.mp4', n=26, second=True)
    film(d/'nobody.mp4', blank=range(16))
    film(d/'edge.mp4', left=-50, top=50)
    (d/'text.mp4').write_text('no film')
    (d/'empty.mp4').touch()
    (d/'notes.txt').write_text('not looked at')
    t = prepare(d, tmp_path/'out', **SMALL)
    good,t = t[t.source == 'good.mp4'],t[t.source != 'good.mp4']
    assert (good.status == 'kept').all() and (good.reason == '').all()
    assert why(t) == {'short#000.mp4': 'too short', 'small#000.mp4': 'too small', 'two#000.mp4': 'several faces',
                      'nobody': 'no face', 'edge#000.mp4': 'crop leaves image',
                      'text': 'unreadable', 'empty': 'unreadable'}
    assert (t.status == 'rejected').all() and (t.sha256 == '').all()
    assert 'the file is empty' in t.set_index('name').reason['empty'] and str(tmp_path) not in ' '.join(t.reason)
    assert sorted(os.listdir(tmp_path/'out')) == ['good#000.mp4', 'manifest.csv', 'prepare.json']


def test_wide_margin_is_moved_inward(tmp_path):
    film(tmp_path/'in'/'a.mp4', left=0, top=0)
    t = prepare(tmp_path/'in', tmp_path/'out', **{**SMALL, 'margin': 1.})
    l,u,r,b = map(int, t.box[0].split('-'))
    assert t.status[0] == 'kept' and (l, u) == (0, 0) and r == b <= 300
    with pytest.raises(InputError, match='margin=1.0, not 0.1'):
        prepare(tmp_path/'in', tmp_path/'out', **{**SMALL, 'margin': .1})


def test_what_is_kept(tmp_path):
    src = film(tmp_path/'in'/'anna'/'one.mp4')
    t = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert list(t.columns) == FIELDS and len(t) == 1
    r = t.iloc[0]
    assert (r['name'], r.identity, r.source, r.status) == ('anna#one#000.mp4', 'anna', 'anna/one.mp4', 'kept')
    assert (r.start, r.end, r.frames, r.fps) == (0, 16, 16, 25.)
    clip,fps = read_video(tmp_path/'out'/r['name'])
    assert clip.shape == (16, 64, 64, 3) and fps == 25 and sha256(tmp_path/'out'/r['name']) == r.sha256
    a,b,c,d = map(int, r.box.split('-'))
    assert c-a == d-b                                            # a square: the aspect ratio is kept
    want = resize(read_video(src)[0][3][b:d, a:c], 64)
    assert np.abs(clip[3].astype(int)-want).mean() < 3


def test_a_gliding_head_is_cut(tmp_path):
    film(tmp_path/'in'/'a.mp4', n=26, step=5)
    t = prepare(tmp_path/'in', tmp_path/'out', **{**SMALL, 'min_frames': 6})
    assert len(t) == 3 and t.start.tolist() == [0, *t.end[:-1]]
    assert ((t['end']-t.start)[:2]-12).abs().max() <= 2          # 61 % of a width of 92 at 5 pixels a frame


def test_a_head_that_goes_away_and_comes_back(tmp_path):
    film(tmp_path/'in'/'a.mp4', n=40, blank=range(15, 25))
    t = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert [(r.start, r.end) for r in t.itertuples()] == [(0, 15), (25, 40)] and (t.status == 'kept').all()
    assert [len(list(Video(tmp_path/'out'/n))) for n in t.name] == [15, 15]


def test_one_file_and_the_output_inside_the_input(tmp_path):
    f = film(tmp_path/'a.mp4')
    assert prepare(f, tmp_path/'out', **SMALL).name.tolist() == ['a#000.mp4']
    assert prepare(tmp_path, tmp_path/'out', **SMALL).source.tolist() == ['a.mp4']    # its own clips are no input


def test_same_stem_twice(tmp_path):
    film(tmp_path/'in'/'a.mp4')
    (tmp_path/'in'/'a.mkv').write_bytes(film(tmp_path/'b.mp4').read_bytes())
    t = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert sorted(t.name) == ['a.mkv#000.mp4', 'a.mp4#000.mp4'] and (t.status == 'kept').all()


def test_truncated_source_is_used_and_said(tmp_path):
    f = film(tmp_path/'in'/'a.mp4', n=60, step=.5)
    f.write_bytes(f.read_bytes()[:int(.8*f.stat().st_size)])
    t = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert t.status[0] == 'kept' and t.reason[0] == 'source damaged, readable part used' and 12 <= t.frames[0] < 60


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match='nowhere: no such folder'): prepare(tmp_path/'nowhere', tmp_path/'out')
    with pytest.raises(InputError, match='there is no video in this folder'): prepare(tmp_path, tmp_path/'out')
    film(tmp_path/'a.mp4')
    (tmp_path/'out').write_text('a file')
    with pytest.raises(InputError, match='could not be written'): prepare(tmp_path, tmp_path/'out')


def test_disk_full_stops_and_leaves_nothing(tmp_path):
    if not os.path.exists('/dev/full'): pytest.skip('needs /dev/full')
    film(tmp_path/'in'/'a.mp4')
    (tmp_path/'out').mkdir()
    real = module.write_video
    def full(path, *a, **k):
        (path.parent/f'.{path.stem}.{os.getpid()}.part.mp4').symlink_to('/dev/full')
        return real(path, *a, **k)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(module, 'write_video', full)
        with pytest.raises(InputError, match='the disk is full'): prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert sorted(os.listdir(tmp_path/'out')) == ['manifest.csv', 'prepare.json']
    assert prepare(tmp_path/'in', tmp_path/'out', **SMALL).status.tolist() == ['kept']       # room was made; it goes on


# interruption

def test_second_call_skips(tmp_path, monkeypatch):
    film(tmp_path/'in'/'a.mp4')
    film(tmp_path/'in'/'b.mp4', n=5)
    first = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    worked = []
    real = module._work
    monkeypatch.setattr(module, '_work', lambda job: worked.append(job['source']) or real(job))
    pd.testing.assert_frame_equal(prepare(tmp_path/'in', tmp_path/'out', **SMALL), first)
    assert worked == []
    film(tmp_path/'in'/'c.mp4')
    assert len(prepare(tmp_path/'in', tmp_path/'out', **SMALL)) == 3 and worked == ['c.mp4']
    (tmp_path/'out'/'a#000.mp4').unlink()
    again = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert worked == ['c.mp4', 'a.mp4'] and (tmp_path/'out'/'a#000.mp4').exists()
    assert again.set_index('name').sha256['a#000.mp4'] == first.sha256[0]


def test_other_settings_need_another_folder(tmp_path):
    film(tmp_path/'in'/'a.mp4')
    prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    with pytest.raises(InputError, match='made with size=64, not 32; choose another folder'):
        prepare(tmp_path/'in', tmp_path/'out', **{**SMALL, 'size': 32})


def test_killed_in_the_middle(tmp_path):
    "Kill -9 after the first finished video; the rest is done by the second call, the first is not done again"
    for n in 'abcd': film(tmp_path/'in'/f'{n}.mp4', n=30)
    code = f'''
from facestudy.data.prepare import prepare
prepare({str(tmp_path/"in")!r}, {str(tmp_path/"out")!r}, **{SMALL!r})'''
    env = {**os.environ, 'FACESTUDY_PROGRESS': '0'}
    p = subprocess.Popen([sys.executable, '-c', code], env=env, stderr=subprocess.PIPE)
    out = tmp_path/'out'/'manifest.csv'
    while not out.exists() and p.poll() is None: time.sleep(.005)
    p.kill()
    p.wait()
    assert p.returncode == -signal.SIGKILL
    done = Manifest(tmp_path/'out', json.loads((tmp_path/'out'/'prepare.json').read_text())).done
    assert 1 <= len(done) < 4
    stamp = (tmp_path/'out'/'a#000.mp4').stat().st_mtime_ns
    t = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert t.source.tolist() == [f'{n}.mp4' for n in 'abcd'] and (t.status == 'kept').all()
    assert (tmp_path/'out'/'a#000.mp4').stat().st_mtime_ns == stamp
    assert not [f for f in os.listdir(tmp_path/'out') if f.startswith('.')]
    assert len({(tmp_path/'out'/n).read_bytes() for n in t.name}) == 1


def test_processes_give_the_same(tmp_path):
    for n in 'ab': film(tmp_path/'in'/f'{n}.mp4')
    (tmp_path/'in'/'c.mp4').write_text('no film')
    a,b = (prepare(tmp_path/'in', tmp_path/f'out{w}', **{**SMALL, 'workers': w}) for w in (1, 2))
    pd.testing.assert_frame_equal(a, b)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path/'out2'/'manifest.csv', keep_default_na=False), b)

# VoxCeleb

@pytest.mark.parametrize('path,want', [
    ('id10001/VIDEO/00001.mp4', ('id10001#VIDEO#00001', 'id10001', 'train')),
    ('id10309/VIDEO/00001.mp4', ('id10309#VIDEO#00001', 'id10309', 'test')),
    ('test/id00017/V/1.mp4', ('id00017#V#1', 'id00017', 'test')),
    ('id00017/V/1.mp4', ('id00017#V#1', 'id00017', '')),
    ('train/film.mp4', ('train#film', 'film', 'train')),
    ('x/y/z.mp4', ('x#y#z', 'x', ''))])


def test_whose(path, want): assert whose(path) == want


def test_voxceleb_layout(tmp_path):
    film(tmp_path/'in'/'id10280'/'vid-1'/'00004.mp4')
    film(tmp_path/'in'/'id10002'/'v'/'00001.mp4', n=4)
    t = prepare(tmp_path/'in', tmp_path/'out', **SMALL)
    assert t[['name', 'identity', 'split', 'status']].values.tolist() == [
        ['id10002#v#00001#000.mp4', 'id10002', 'train', 'rejected'],
        ['id10280#vid-1#00004#000.mp4', 'id10280', 'test', 'kept']]


def listing(tmp_path, *rows, columns='video_id,start,end,bbox,fps,width,height,partition,person_id'):
    f = tmp_path/'list.csv'
    f.write_text('\n'.join([columns, *rows])+'\n')
    return f


def test_metadata_cuts_exactly_these(tmp_path):
    rng = np.random.default_rng(0)
    # no face anywhere: nothing is detected
    tiles = rng.integers(0, 255, (30, 6, 8, 3), np.uint8).repeat(20, 1).repeat(20, 2)
    write_video(tmp_path/'in'/'-vid.mp4', tiles, 25)
    f = listing(tmp_path, '-vid,3,13,20-40-60-80,25,160,120,train,id10001',
                '-vid,10,30,0-0-160-120,25,160,120,test,id10282', 'gone,0,9,0-0-9-9,25,160,120,test,id1')
    t = prepare(tmp_path/'in', tmp_path/'out', size=32, metadata=f, workers=1)
    told = ['name', 'identity', 'split', 'source', 'start', 'end', 'box', 'frames', 'status', 'reason']
    assert t[told].values.tolist() == [
        ['id10001#-vid#000003#000013.mp4', 'id10001', 'train', '-vid.mp4', 3, 13, '20-40-60-80', 10, 'kept', ''],
        ['id10282#-vid#000010#000030.mp4', 'id10282', 'test', '-vid.mp4', 10, 30, '0-0-160-120', 20, 'kept', ''],
        ['id1#gone#000000#000009.mp4', 'id1', 'test', 'gone', 0, 0, '', 0, 'rejected', 'no such video']]
    clip = read_video(tmp_path/'out'/t.name[0])[0]
    source = read_video(tmp_path/'in'/'-vid.mp4')[0]
    assert np.abs(clip.astype(int)-resize(source[3:13, 40:80, 20:60], 32)).mean() < 8
    write_video(tmp_path/'in'/'gone.mp4', tiles, 25)                                       # the missing video turns up
    assert prepare(tmp_path/'in', tmp_path/'out', size=32, metadata=f, workers=1).status.tolist() == ['kept']*3


def test_metadata_of_another_rate_and_size(tmp_path):
    write_video(tmp_path/'in'/'v.mp4', np.zeros((60, 60, 80, 3), np.uint8), 50)
    f = listing(tmp_path, 'v,5,20,40-40-80-80,25,160,120,train,p', 'v,40,50,0-0-9-9,25,160,120,train,p',
                'v,0,9,300-0-400-9,25,160,120,train,p')
    t = prepare(tmp_path/'in', tmp_path/'out', size=16, workers=1, metadata=f)
    t = t.set_index('start')
    assert t.loc[10, ['end', 'box', 'frames', 'fps', 'status']].tolist() == [40, '20-20-40-40', 30, 50., 'kept']
    assert t.reason[80] == 'too short: the video ends before this clip' and t.reason[0] == 'crop leaves image'


def test_metadata_with_person_in_the_id(tmp_path):
    f = listing(tmp_path, 'v#id10001,0,5,0-0-9-9,25,80,60,train',
                columns='video_id,start,end,bbox,fps,width,height,partition')
    assert read_metadata(f)[['video_id', 'person_id']].values.tolist() == [['v', 'id10001']]


@pytest.mark.parametrize('row', ['v,0,5,0-0-9,25,80,60,train,p', 'v,9,5,0-0-9-9,25,80,60,train,p',
                                 'v,x,5,0-0-9-9,25,80,60,train,p', 'v,0,5,,25,80,60,train,p'])


def test_metadata_malformed(tmp_path, row):
    with pytest.raises(InputError, match='list.csv: row 3 cannot be understood'):
        read_metadata(listing(tmp_path, 'v,0,5,0-0-9-9,25,80,60,train,p', row))


def test_metadata_lacks_a_column(tmp_path):
    with pytest.raises(InputError, match="the column 'partition' is missing"):
        read_metadata(listing(tmp_path, 'v,0,5,0-0-9-9,25,80,60', columns='video_id,start,end,bbox,fps,width,height'))
