"One photo and one video in, one video out; clips rebuilt and scored; bad input"
import errno, os, warnings, wave
from functools import partial

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from skimage import data

from facestudy import animate as A
from facestudy.animate import (Driving, Follow, aligned_square, animate_photo, check_output, clip_files, crop_square, cut,
                               faces_in, one_face, reconstruct_clips, source_crop, system_digest)
from facestudy.data.clips import MARGIN
from facestudy.core import InputError
from facestudy.data.landmarks import detect_faces
from facestudy.grids import make_grid, warp
from facestudy.media import Video, read_video, write_video
from facestudy.measure.metrics import score_clip, summarise
from facestudy.method.superres import SuperResolution
from facestudy.nets import save_net
from facestudy.systems.suggested import KeypointSystem
from facestudy.training.system import System

PHOTO = data.astronaut()[:300, 60:420]


class Still(System):
    "Gives the source back for every driving frame, and remembers what it was asked"
    name = 'still'
    def __init__(self):
        super().__init__(64)
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.asked = []
    def film(self, source, driving, source_face=None, driving_faces=None, relative=False, batch=16, canvas=None):
        for im,face in zip(driving, driving_faces, strict=True):
            self.asked.append(dict(source=source, image=im, face=face, source_face=source_face, relative=relative))
            yield source


def face_frames(n, step=3):
    "A face that moves to the right"
    return [np.ascontiguousarray(PHOTO[:240, 40-step*i:280-step*i]) for i in range(n)]


def save_photo(path, im):
    cv2.imwrite(str(path), im[..., ::-1] if im.ndim == 3 else im)
    return path


def save_sound(path, seconds=1):
    "A wav file"
    with wave.open(str(path), 'wb') as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(16000)
        w.writeframes((8000*np.sin(np.arange(int(16000*seconds))/9)).astype('<i2').tobytes())
    return path


@pytest.fixture(scope='session')
def made(tmp_path_factory):
    "A photo, driving videos with and without sound, and a folder of clips"
    d = tmp_path_factory.mktemp('made')
    save_photo(d/'photo.png', PHOTO)
    write_video(d/'silent.mp4', face_frames(6), 12)
    write_video(d/'talk.mp4', face_frames(6), 12, audio_from=save_sound(d/'tone.wav'))
    (d/'clips').mkdir()
    for i in range(2): write_video(d/'clips'/f'c{i}.mp4', face_frames(5, i+1), 25)
    return d


def run(made, out, **kw):
    args = dict(photo=made/'photo.png', driving=made/'silent.mp4', system=Still(), device='cpu', progress=False,
                crop=True) | kw
    return animate_photo(out=out, **args)


def left(folder): return sorted(os.listdir(folder))


# framing

@pytest.mark.parametrize('box', [
    (10, 10, 50, 50), (0, 0, 40, 40), (150, 90, 40, 40), (-5, 70, 60, 60), (0, 0, 110, 110)])
def test_square_lies_inside_and_has_the_margin(box):
    x,y,s = crop_square(box, (120, 200))
    assert 0 <= x <= 200-s and 0 <= y <= 120-s
    assert s == min(120, np.ceil(box[2]*(1+2*MARGIN)))


def test_aligned_face_sits_like_the_driving_face():
    like = np.array([-.2, .1, .5, .5])
    box,hw = (400, 300, 100, 100),(900, 1000)
    square = aligned_square(box, hw, like)
    np.testing.assert_allclose(faces_in(one_face(box), square)[0], like, atol=.02)
    assert aligned_square(box, hw, np.full(4, np.nan)) == crop_square(box, hw)


def test_cut_takes_exactly_the_square():
    im = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut(im, (5, 7, 20), 20), im[7:27, 5:25])


def test_driving_uses_one_square_that_holds_every_face(made):
    film = Driving(made/'silent.mp4', 64, progress=False)
    x,y,s = film.square
    for im in Video(made/'silent.mp4'):
        bx,by,bw,bh = detect_faces(im)[0]
        assert x-4 <= bx and bx+bw <= x+s+4 and y-4 <= by and by+bh <= y+s+4
    cx = film.faces[:, 0]
    assert cx[-1] > cx[0]+.05                                   # the face moves inside the square
    assert len(list(film)) == len(film) == 6


# animate

def test_report_and_result(made, tmp_path):
    r = run(made, tmp_path/'new'/'out.mp4')
    frames,fps = read_video(tmp_path/'new'/'out.mp4')
    assert frames.shape == (6, 64, 64, 3) and fps == 12
    want = dict(frames=6, fps=12, size=64, audio=False, faces=1, warnings=[])
    assert {k: r[k] for k in want} == want
    assert '<video' in r._repr_html_()
    assert left(tmp_path/'new') == ['out.mp4']


def test_the_system_gets_aligned_faces_and_the_motion_asked_for(made, tmp_path):
    for relative in (True, False):
        system = Still()
        run(made, tmp_path/'out.mp4', system=system, follow=Follow(relative=relative))
        first = system.asked[0]
        assert [a['relative'] for a in system.asked] == [relative]*6
        assert first['image'].shape == first['source'].shape == (3, 64, 64)
        assert 0 <= first['image'].min() and first['image'].max() <= 1
        torch.testing.assert_close(first['source_face'], first['face'], atol=.12, rtol=0)
        torch.testing.assert_close(first['source_face'][2:], first['face'][2:], atol=.03, rtol=0)


def test_sound_is_kept_and_cut_at_the_end(made, tmp_path):
    r = run(made, tmp_path/'out.mp4', driving=made/'talk.mp4')
    assert r['audio'] and Video(tmp_path/'out.mp4').has_audio
    assert not run(made, tmp_path/'silent.mp4')['audio'] and not Video(tmp_path/'silent.mp4').has_audio


def test_superres_and_size(made, tmp_path):
    save_net(tmp_path/'sr.safetensors', SuperResolution(4), 'superres')
    a = run(made, tmp_path/'a.mp4', superres=tmp_path/'sr.safetensors')
    assert a['size'] == 128 == Video(tmp_path/'a.mp4').size[0]
    b = run(made, tmp_path/'b.mp4', superres=SuperResolution(4), size=90)
    assert b['size'] == 90 == Video(tmp_path/'b.mp4').size[0]
    for size in (0, -3, 10**6):
        with pytest.raises(InputError, match='out of range'): run(made, tmp_path/'c.mp4', size=size)


class Large(Still):
    "Draws on the photo"
    draws_larger = True
    def film(self, source, driving, source_face=None, driving_faces=None, relative=False, batch=16, canvas=None):
        for _ in driving: yield source if canvas is None else canvas


def test_the_photos_own_pixels_reach_the_result(made, tmp_path):
    report = run(made, tmp_path/'own.mp4', system=Large())
    assert 64 < report['size'] <= A.LARGEST and report['size'] % 2 == 0
    shown = read_video(tmp_path/'own.mp4')[0][0]
    film = Driving(made/'silent.mp4', 64, progress=False)
    photo = source_crop(made/'photo.png', report['size'], film.first_face)[0]
    assert np.abs(shown.astype(int)-photo).mean() < 4                       # H.264 alone stands between the two
    assert run(made, tmp_path/'asked.mp4', system=Large(), size=96)['size'] == 96


@pytest.mark.parametrize('size', [None, 96])
def test_the_rebuilt_file_says_what_the_rows_say(made, tmp_path, size):
    rows = rebuild(made, tmp_path, Large(), size=size)['rows']
    for clip,part in rows.groupby('clip'):
        truth = np.stack(list(Driving(made/'clips'/f'{clip}.mp4', size or 64, whole=True, progress=False)))
        theirs = score_clip(truth, read_video(tmp_path/f'{clip}.mp4')[0])
        assert abs(theirs.psnr.mean()-part.psnr.mean()) < .05


def test_memory_holds_a_few_frames_only(made, tmp_path, monkeypatch):
    "However long the film is, so many frames wait between the network and the file as `ahead` allows, and one is in hand"
    inside,most,waiting = [],[],3
    class Counting(Still):
        def film(self, source, driving, *_):
            for _ in driving:
                inside.append(source)
                most.append(len(inside))
                yield source
    def leaving(frames):
        for im in frames:
            yield im
            inside.pop()
    real = A.write_video
    monkeypatch.setattr(A, 'write_video', lambda path, frames, *args, **kw: real(path, leaving(frames), *args, **kw))
    monkeypatch.setattr(A, 'ahead', partial(A.ahead, n=waiting))
    write_video(tmp_path/'long.mp4', face_frames(24, 1), 25)
    run(made, tmp_path/'out.mp4', driving=tmp_path/'long.mp4', system=Counting())
    assert len(most) == 24 and max(most) <= waiting+1


def test_a_driving_video_of_one_frame(made, tmp_path):
    write_video(tmp_path/'one.mp4', face_frames(1), 25)
    assert run(made, tmp_path/'out.mp4', driving=tmp_path/'one.mp4')['frames'] == 1


# the whole photo

class Warps(System):
    "Moves the photo to the right by a fifth of its width, as far as it may move"
    draws_larger = fades = True
    def film(self, source, driving, source_face=None, driving_faces=None, relative=False, batch=16, canvas=None):
        picture,window = canvas[:3],canvas[3]
        grid = make_grid(*window.shape)
        grid = grid-torch.stack([.4*window, 0*window], -1)
        for _ in driving: yield warp(picture[None], grid[None])[0]


@pytest.mark.parametrize('system', [Warps(64), Large(), Still()], ids=lambda s: type(s).__name__)
def test_the_rest_of_the_photo_stands_still_and_nothing_breaks_at_the_edge(made, tmp_path, system):
    wide = np.pad(PHOTO, ((80, 120), (150, 130), (0, 0)), mode='reflect')
    report = run(made, tmp_path/'whole.mp4', photo=save_photo(tmp_path/'wide.png', wide), system=system, crop=False, face=1)
    shown = read_video(tmp_path/'whole.mp4')[0][0].astype(int)
    assert shown.shape[:2] == (report['height'], report['width']) == wide.shape[:2]
    left,top,side = A.find_source(tmp_path/'wide.png', number=1).like(
        Driving(made/'silent.mp4', 64, progress=False).first_face).square
    away = np.ones(wide.shape[:2], bool)
    away[top:top+side, left:left+side] = False
    assert np.abs(shown-wide)[away].mean() < 4                                     # H.264 alone
    def step(x): return np.abs(x[top+side].astype(int)-x[top+side-1])[left:left+side].mean()
    assert step(shown) < step(wide)+6


def test_a_large_photo_is_reduced_and_a_small_one_stays(made, tmp_path):
    large = save_photo(tmp_path/'large.png', cv2.resize(PHOTO, None, fx=8, fy=8))
    with pytest.warns(UserWarning, match='large.png: 2880x2400 pixels are more than needed; reduced to 1920x1600'):
        assert run(made, tmp_path/'a.mp4', photo=large, crop=False)['width'] == A.LONGEST
    assert run(made, tmp_path/'b.mp4', photo=large, crop=False, size=200)['width'] <= 200
    small = run(made, tmp_path/'c.mp4', crop=False, size=2000)
    assert (small['height'], small['width']) == PHOTO.shape[:2]


# how it follows

class Tells(KeypointSystem):
    "Its keypoints are the corners of the face's box; each picture is as bright as the points have moved to the right"
    def __init__(self):
        super().__init__(64)
        self.weight = torch.nn.Parameter(torch.ones(3))
    def keypoints(self, image, face=None):
        corners = torch.tensor([[-1., -1.], [1., -1.], [-1., 1.], [1., 1.]])
        return {'points': face[:, None, :2]+corners*face[:, None, 2:]}
    def render(self, source, source_kp, driving_kp, canvas=None):
        moved = (driving_kp['points']-source_kp['points'])[..., 0].mean(1)
        return (.5+moved)[:, None, None, None].expand(-1, 3, 64, 64)


def told(made, tmp_path, **kw):
    "How far the points went, frame by frame"
    run(made, tmp_path/'told.mp4', system=Tells(), follow=Follow(calm=False, **kw))
    return read_video(tmp_path/'told.mp4')[0].mean((1, 2, 3))/255-.5


def test_multiplier_and_reference(made, tmp_path):
    film = Driving(made/'silent.mp4', 64, progress=False)
    x = film.faces[:, 0]
    plain,double,third = (told(made, tmp_path, **o) for o in
                          (dict(reference=0), dict(reference=0, multiplier=2.), dict(reference=3)))
    assert abs(x[5]-x[0]) > .05
    assert np.allclose(plain, x-x[0], atol=.02) and np.allclose(double, 2*(x-x[0]), atol=.03)
    assert np.allclose(third, x-x[3], atol=.02)
    assert np.allclose(told(made, tmp_path, reference=0, keep='expression'), 0, atol=.02)  # a box has pose alone
    assert np.allclose(told(made, tmp_path, reference=0, keep='pose'), plain, atol=.02)


def test_the_reference_that_looks_most_like_the_photo(made):
    system,film = Tells(),Driving(made/'silent.mp4', 64, progress=False)
    frames = torch.zeros(len(film), 3, 64, 64)
    faces = torch.tensor(film.faces)
    faces[:, 3] *= torch.linspace(.7, 1.3, len(film))                                  # taller from frame to frame
    assert system.nearest(frames[0], faces[4]*1.1, frames, faces) == 4                 # wherever, however large


@pytest.mark.parametrize('wrong,words', [(dict(keep='nose'), 'keep'), (dict(multiplier=-1.), 'multiplier'),
                                         (dict(reference='first'), 'reference')])
def test_wishes_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(InputError, match=words): Follow(**wrong)


def test_a_reference_beyond_the_end_and_a_system_without_keypoints(made, tmp_path):
    with pytest.raises(InputError, match='there is no frame 99; the video has 6'): told(made, tmp_path, reference=99)
    with pytest.raises(InputError, match='no keypoints to steer'):
        run(made, tmp_path/'x.mp4', follow=Follow(multiplier=2.))
    assert not (tmp_path/'x.mp4').exists()


# photos as people have them

def test_several_faces_largest_taken_and_said(made, tmp_path):
    small = cv2.resize(PHOTO, None, fx=.6, fy=.6, interpolation=cv2.INTER_AREA)
    both = np.concatenate([PHOTO, np.pad(small, ((PHOTO.shape[0]-small.shape[0], 0), (0, 0), (0, 0)), mode='edge')], 1)
    with pytest.warns(UserWarning, match='2 faces found; the largest'):
        r = run(made, tmp_path/'out.mp4', photo=save_photo(tmp_path/'two.png', both))
    assert r['faces'] == 2 and len(r['warnings']) == 2 and (tmp_path/'out.faces.jpg').exists()
    with pytest.warns(UserWarning): _,face,_ = source_crop(tmp_path/'two.png', 64)
    assert abs(face[2]-2/3) < .1


def test_several_faces_in_the_driving_video(made, tmp_path):
    small = cv2.resize(PHOTO[:240, 40:280], (144, 144), interpolation=cv2.INTER_AREA)
    other = np.pad(small, ((96, 0), (0, 0), (0, 0)), mode='edge')
    write_video(tmp_path/'two.mp4', [np.concatenate([f, other], 1) for f in face_frames(3, 1)], 12)
    with pytest.warns(UserWarning, match='two.mp4: 2 faces in the first frame; the largest'):
        run(made, tmp_path/'out.mp4', driving=tmp_path/'two.mp4')


def _kinds(d):
    from PIL import Image
    im = Image.fromarray(PHOTO)
    im.convert('L').save(d/'grey.png')
    im.convert('RGBA').save(d/'alpha.png')
    cv2.imwrite(str(d/'deep.png'), (PHOTO[..., ::-1].astype(np.uint16)*257))
    exif = Image.Exif()
    exif[274] = 6
    im.rotate(90, expand=True).save(d/'turned.jpg', exif=exif)
    save_photo(d/'odd.png', PHOTO[:299, :357])
    save_photo(d/'huge.jpg', cv2.resize(PHOTO, (4400, 3667)))
    return ['grey.png', 'alpha.png', 'deep.png', 'turned.jpg', 'odd.png', 'huge.jpg']


def test_grey_alpha_deep_rotated_odd_and_huge_photos(made, tmp_path):
    want,_,_ = source_crop(made/'photo.png', 64)
    for name in _kinds(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            im,face,n = source_crop(tmp_path/name, 64)
        assert n == 1 and abs(face[2]-2/3) < .15, name
        if name != 'grey.png': assert np.abs(im.astype(int)-want).mean() < 25, name


# bad input: one sentence, and nothing under the final name

def _bad(d, made):
    (d/'empty.mp4').touch()
    (d/'text.mp4').write_text('no film')
    (d/'stub.mp4').write_bytes((made/'silent.mp4').read_bytes()[:300])
    save_photo(d/'dark.png', np.zeros((99, 99, 3), np.uint8))
    (d/'cut.png').write_bytes((made/'photo.png').read_bytes()[:5000])
    write_video(d/'dark.mp4', np.zeros((3, 96, 96, 3), np.uint8), 25)


@pytest.mark.parametrize('what,name,says', [
    ('photo', 'none.png', 'no such file'), ('photo', 'dark.png', 'no face'), ('photo', 'cut.png', 'cut.png'),
    ('photo', 'empty.mp4', 'empty'), ('photo', 'text.mp4', 'no image'),
    ('driving', 'none.mp4', 'no such file'), ('driving', 'empty.mp4', 'empty'), ('driving', 'text.mp4', 'no video'),
    ('driving', 'stub.mp4', 'stub.mp4'), ('driving', 'dark.mp4', 'no face found in any of 3 frames'),
    ('superres', 'text.mp4', 'damaged'), ('system', 'text.mp4', 'damaged'),
    ('system', 'none.safetensors', 'no such file')])


def test_bad_input_is_named_and_leaves_nothing(made, tmp_path, what, name, says):
    _bad(tmp_path, made)
    out = tmp_path/'results'/'out.mp4'
    with pytest.raises(InputError, match=says) as e: run(made, out, **{what: tmp_path/name})
    assert name in str(e.value) and '\n' not in str(e.value)
    assert left(out.parent) == []


def test_a_truncated_driving_video_is_used_as_far_as_it_goes(made, tmp_path):
    import av
    from fractions import Fraction
    whole = tmp_path/'whole.mkv'
    with av.open(str(whole), 'w') as c:
        s = c.add_stream('libx264', rate=Fraction(12), options={'g': '1', 'tune': 'zerolatency'})
        s.width = s.height = 240
        s.pix_fmt = 'yuv420p'
        for im in face_frames(12, 2): c.mux(s.encode(av.VideoFrame.from_ndarray(im, format='rgb24')))
        c.mux(s.encode(None))
    (tmp_path/'half.mkv').write_bytes(whole.read_bytes()[:whole.stat().st_size*6//10])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        r = run(made, tmp_path/'out.mp4', driving=tmp_path/'half.mkv')
    assert 3 <= r['frames'] < 12 and len(read_video(tmp_path/'out.mp4')[0]) == r['frames']


def test_places_that_cannot_be_written(made, tmp_path):
    (tmp_path/'file').write_text('x')
    with pytest.raises(InputError, match='is a file, and a folder is needed'): run(made, tmp_path/'file'/'out.mp4')
    with pytest.raises(InputError, match='ends with .mp4'): run(made, tmp_path/'out.gif')
    with pytest.raises(InputError, match='this is a folder'):
        (tmp_path/'d.mp4').mkdir()
        run(made, tmp_path/'d.mp4')
    with pytest.raises(InputError, match='overwrite an input'):
        check_output(made/'silent.mp4', [made/'..'/made.name/'silent.mp4'])
    def refuse(*a, **kw): raise OSError(errno.EACCES, 'Permission denied')
    with pytest.MonkeyPatch.context() as m:
        m.setattr(A.tempfile, 'TemporaryFile', refuse)
        with pytest.raises(InputError, match='not writable'): run(made, tmp_path/'locked'/'out.mp4')


@pytest.mark.parametrize('error,raised', [
    (OSError(errno.ENOSPC, 'No space left on device'), InputError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_full_disk_and_interruption_leave_the_old_file(made, tmp_path, error, raised):
    (tmp_path/'out.mp4').write_bytes(b'old')
    class Breaks(Still):
        def film(self, source, driving, *_):
            for i,_ in enumerate(driving):
                if i == 3: raise error
                yield source
    with pytest.raises(raised): run(made, tmp_path/'out.mp4', system=Breaks())
    assert (tmp_path/'out.mp4').read_bytes() == b'old' and left(tmp_path) == ['out.mp4']


# reconstruct

def rebuild(made, out, system=None, **kw):
    return reconstruct_clips(system or Still(), made/'clips', out, device='cpu', progress=False, **kw)


def test_rows_and_videos(made, tmp_path):
    r = rebuild(made, tmp_path/'out')
    assert (tmp_path/'out'/'rows.csv').read_text().splitlines()[0] == 'clip,frame,psnr,ssim'
    table = pd.read_csv(tmp_path/'out'/'rows.csv')
    assert table.groupby('clip').frame.apply(list).to_dict() == {'c0': [1, 2, 3, 4], 'c1': [1, 2, 3, 4]}
    assert len(read_video(tmp_path/'out'/'c0.mp4')[0]) == 5
    assert summarise(table)['psnr'] == pytest.approx(summarise(r['rows'])['psnr']) and r['failed'] == {}
    psnr = table.groupby('clip').psnr.apply(list)
    # the face that moves more is further from its first frame
    assert psnr['c0'][0] > psnr['c1'][0] and psnr['c0'] == sorted(psnr['c0'], reverse=True)


def test_self_reenactment_is_absolute_and_starts_from_frame_0(made, tmp_path):
    system = Still()
    rebuild(made, tmp_path, system)
    assert not any(a['relative'] for a in system.asked)
    assert all(torch.equal(system.asked[i]['source'], system.asked[i]['image']) for i in (0, 5))


def test_a_second_run_computes_nothing_and_other_weights_compute_all(made, tmp_path):
    first = rebuild(made, tmp_path)
    again = Still()
    assert rebuild(made, tmp_path, again)['rows'].values.tolist() == first['rows'].values.tolist() and again.asked == []
    other = Still()
    with torch.no_grad(): other.weight += 1
    rebuild(made, tmp_path, other)
    assert len(other.asked) == 10


def test_a_killed_run_goes_on_and_ends_with_the_same_rows(made, tmp_path):
    class Dies(Still):
        def film(self, source, driving, *asked):
            for x in super().film(source, driving, *asked):
                if len(self.asked) > 7: raise KeyboardInterrupt
                yield x
    with pytest.raises(KeyboardInterrupt): rebuild(made, tmp_path/'a', Dies())
    assert left(tmp_path/'a') == ['.done.json', 'c0.mp4', 'rows.csv']
    second = Still()
    rebuild(made, tmp_path/'a', second)
    assert len(second.asked) == 5
    rebuild(made, tmp_path/'b')
    assert (tmp_path/'a'/'rows.csv').read_text() == (tmp_path/'b'/'rows.csv').read_text()


def test_bad_clips_cost_one_sentence_each_and_the_others_go_on(made, tmp_path, capsys):
    clips = tmp_path/'clips'
    clips.mkdir()
    (clips/'a_good.mp4').write_bytes((made/'clips'/'c0.mp4').read_bytes())
    write_video(clips/'one.mp4', face_frames(1), 25)
    _bad(clips, made)
    (clips/'notes.txt').write_text('no video, and none is expected')
    write_video(clips/'wide.mp4', np.zeros((3, 64, 96, 3), np.uint8), 25)
    r = reconstruct_clips(Still(), clips, tmp_path/'out', device='cpu', progress=False)
    said = capsys.readouterr().err.strip().splitlines()
    assert set(r['failed']) == {'one', 'empty', 'text', 'stub', 'wide'} and len(said) == 5
    assert all(s.startswith('facestudy: ') for s in said)
    assert 'one frame only' in r['failed']['one'] and 'no face' in r['failed']['wide']
    assert 'a_good' in set(r['rows']['clip'])
    assert not [f for f in left(tmp_path/'out') if f[:-4] in r['failed']]


def test_damaged_notes_are_not_believed(made, tmp_path):
    rebuild(made, tmp_path)
    (tmp_path/'.done.json').write_text('{')
    system = Still()
    rebuild(made, tmp_path, system)
    assert len(system.asked) == 10


def test_folders_that_cannot_serve(made, tmp_path):
    with pytest.raises(InputError, match='no such folder'):
        reconstruct_clips(Still(), tmp_path/'none', tmp_path/'out', device='cpu')
    with pytest.raises(InputError, match='no video in this folder'):
        reconstruct_clips(Still(), tmp_path, tmp_path/'out', device='cpu')
    with pytest.raises(InputError, match='overwrite the clips'):
        reconstruct_clips(Still(), made/'clips', made/'clips', device='cpu')


def test_clips_of_one_stem_stay_apart(tmp_path):
    for n in ('a.mp4', 'a.mov', 'b.mp4', '.hidden.mp4'): (tmp_path/n).touch()
    assert list(clip_files(tmp_path)) == ['a.mov', 'a.mp4', 'b']


def test_the_digest_knows_name_size_and_weights():
    a,b = Still(),Still()
    assert system_digest(a) == system_digest(b)
    b.size = 128
    assert system_digest(a) != system_digest(b)
