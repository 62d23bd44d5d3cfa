"The mark in files and on the command line: what carries it, what does not, and what people are told"
import cv2
import numpy as np
import pytest

from facestudy.mark import CHANGES, ENOUGH, PLACES, WINDOW, changed, find_mark, made_tags, marked
from facestudy.media import Video, read_video, write_video
from test_animate import face_frames, made, save_photo    # `made` is a fixture
from test_cli import animate, rebuild, run, weights       # `weights` is a fixture


@pytest.fixture(scope='module')
def talking(made, weights, tmp_path_factory):
    "Folder of videos by the real command, with the mark and without"
    d = tmp_path_factory.mktemp('talking')
    from facestudy import cli
    files = '--source', made/'photo.png', '--driving', made/'talk.mp4', '--system', weights, '--device', 'cpu'
    for name,more in (('marked', ()), ('bare', ('--no-watermark',)), ('crop', ('--crop',))):
        with pytest.raises(SystemExit) as e:
            raise SystemExit(cli.main([str(a) for a in ('animate', *files, '--out', d/f'{name}.mp4', *more)]))
        assert e.value.code == 0
    return d


# what animate and puppet write

def test_check_finds_what_animate_made(capsys, talking):
    for name in ('marked', 'crop'):
        code,out,err = run(capsys, 'check', talking/f'{name}.mp4')
        assert (code, err) == (0, []) and out.count('\n') == 1
        assert f'{name}.mp4: made by facestudy: its picture carries the mark' in out and 'its header says so too' in out


def test_without_the_mark_it_is_said_what_is_lost(capsys, made, weights, talking, tmp_path):
    code,_,err = animate(capsys, made, weights, tmp_path/'o.mp4', **{'no-watermark': True})
    assert code == 0 and len(err) == 1 and 'carries no invisible mark, so only its header says' in err[0]
    code,out,err = run(capsys, 'check', talking/'bare.mp4')
    assert (code, err) == (3, []) and 'its header says "Made with facestudy' in out and 'carries no mark' in out


def test_puppet_marks_too(capsys, made, weights, tmp_path):
    (tmp_path/'take.csv').write_text('Timecode,JawOpen\n0,0\n1,.5\n')
    asked = 'puppet', '--source', made/'photo.png', '--system', weights, '--motion', tmp_path/'take.csv', '--out'
    assert run(capsys, *asked, tmp_path/'o.mp4')[0] == 0
    code,_,err = run(capsys, *asked, tmp_path/'bare.mp4', '--no-watermark')
    assert code == 0 and 'carries no invisible mark' in err[-1]
    assert [run(capsys, 'check', tmp_path/name)[0] for name in ('o.mp4', 'bare.mp4')] == [0, 3]


def test_help_tells_of_the_mark(capsys):
    for name in ('animate', 'puppet'):
        said = ' '.join(run(capsys, name, '--help')[1].split())
        assert '--no-watermark' in said and 'mark the picture, invisibly' in said


def test_files_that_are_scored_carry_none(capsys, made, weights, tmp_path):
    assert rebuild(capsys, weights, made/'clips', tmp_path/'r')[0] == 0
    found = find_mark(tmp_path/'r'/'c0.mp4', progress=False)
    assert not found.mark and found.comment == ''


# what happens to it afterwards

@pytest.mark.parametrize('change', [c for c in CHANGES if c != 'a second cut out'])   # it lasts half a second
def test_it_survives(talking, tmp_path, change):
    changed(talking/'marked.mp4', change, tmp_path/'back.mp4')
    found = find_mark(tmp_path/'back.mp4', progress=False)
    assert found.mark and found.comment == ''                   # the header is lost, and the mark is not


def test_a_second_is_cut_out(tmp_path):
    write_video(tmp_path/'long.mp4', marked(face_frames(50, 0)), 25)
    changed(tmp_path/'long.mp4', 'a second cut out', tmp_path/'back.mp4')
    found = find_mark(tmp_path/'back.mp4', progress=False)
    assert found.mark and found.frames == 25


def test_a_single_picture_of_it_is_enough(capsys, talking, tmp_path):
    save_photo(tmp_path/'still.png', read_video(talking/'marked.mp4', 1)[0][0])
    assert run(capsys, 'check', tmp_path/'still.png')[0] == 0


@pytest.mark.parametrize('h,w', [(768, 1024), (361, 641), (96, 128)])
def test_frames_of_any_shape(tmp_path, h, w):
    scene = cv2.resize(face_frames(1)[0], (w, h), interpolation=cv2.INTER_CUBIC)
    scene[:, :w//3] = 255                                       # a flat area, as bright as can be
    write_video(tmp_path/'o.mp4', marked([scene]*5), 25)
    assert find_mark(tmp_path/'o.mp4', progress=False).mark


# what has none

def test_other_videos(capsys, made, tmp_path):
    code,out,err = run(capsys, 'check', made/'talk.mp4')
    assert (code, err) == (3, []) and 'talk.mp4: no mark of facestudy' in out
    flat = np.full((64, 64, 3), 90, np.uint8)
    write_video(tmp_path/'flat.mp4', [flat]*5, 25)
    write_video(tmp_path/'noise.mp4', np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8), 25)
    assert [run(capsys, 'check', tmp_path/f'{name}.mp4')[0] for name in ('flat', 'noise')] == [3, 3]


def test_a_header_is_no_mark(tmp_path):
    write_video(tmp_path/'said.mp4', face_frames(5), 25, tags=made_tags())
    found = find_mark(tmp_path/'said.mp4', progress=False)
    assert not found.mark and found.score < ENOUGH and found.comment == made_tags()['comment']
    assert Video(tmp_path/'said.mp4').tags['title'] == made_tags()['title']


def test_a_long_video_is_looked_at_in_places(tmp_path):
    still = face_frames(1)[0][:64, :64]
    write_video(tmp_path/'long.mp4', (still for _ in range(1500)), 25)
    assert find_mark(tmp_path/'long.mp4', progress=False).frames <= PLACES*WINDOW


def test_bad_input_is_one_sentence(capsys, tmp_path):
    (tmp_path/'text.mp4').write_text('no film')
    (tmp_path/'empty.mp4').touch()
    for name,says in (('none.mp4', 'no such file'), ('text.mp4', 'damaged'), ('empty.mp4', 'empty'), ('', 'a folder')):
        code,out,err = run(capsys, 'check', tmp_path/name)
        assert (code, out, len(err)) == (1, '', 1) and err[0].startswith('facestudy: ') and says in err[0]
        assert str(tmp_path/name) in err[0]
