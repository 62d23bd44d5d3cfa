"A training killed at any moment resumes bit for bit; a trained system survives the disk"
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facestudy.core import ROOT, InputError, load_tensors, save_tensors, seed_all
from facestudy.nets import MOVED, load_net, net_meta, save_net
from facestudy.systems.first_order import FirstOrder
from facestudy.systems.suggested import Suggested
from facestudy.training.recipe import Recipe
from facestudy.training.reenact import held_out_psnr, reenact
from facestudy.training.system import CopySource
from facestudy.training.trainer import Trainer

# One stage of the ResNet instead of four: a checkpoint of a few hundred kilobytes instead of 180 MB
TINY = dict(size=32, encoder_stages=1, motion_widths=[8, 16], generator_widths=[8, 16], perceptual=0., pixels=1.)
RELEASED = sorted((ROOT/'data'/'checkpoints').rglob('*.safetensors'))


def toy_store():
    "One made-up clip: a square that wanders over a gradient"
    clip = np.zeros((12, 32, 32, 3), np.uint8)
    clip[..., 0] = np.arange(32)*8
    for t in range(12): clip[t, 8:20, t+2:t+14] = 200
    faces,stretch = np.full((12, 4), np.nan, np.float32),SimpleNamespace(name='a', identity='a', start=0, stop=12)
    return SimpleNamespace(frames=lambda name: clip, faces=lambda name: faces, segments=lambda split: [stretch],
                           digest='toy')


def trainer(optimiser='adamw', steps=8, seed=1, **config):
    "A fresh trainer; two of them are alike to the last bit"
    torch.set_num_threads(1)
    seed_all(0)
    recipe = Recipe(steps=steps, batch=2, optimiser=optimiser, average=.2)
    return Trainer(Suggested(**TINY | config), toy_store(), recipe, seed=seed, device='cpu')


def same_weights(a, b):
    "Do two trainers hold the same weights, to the last bit?"
    theirs = b.system.state_dict()
    return all(torch.equal(v, theirs[k]) for k,v in a.system.state_dict().items())


def same_log(a, b):
    "Do two logs agree in everything but time?"
    return [r | {'seconds': 0} for r in a.log] == [r | {'seconds': 0} for r in b.log]


def run_and_kill(optimiser, file, at=2):
    "Train in another process and kill it without warning, in mid-step, once `at` steps are on disk"
    here = str(Path(__file__).parent)
    code = (f'import sys; sys.path.insert(0, {here!r}); from test_training import trainer; '
            f'trainer({optimiser!r}).run({str(file)!r}, save_every=0, measure_every=5)')
    child,end = subprocess.Popen([sys.executable, '-c', code]),time.time()+120
    while child.poll() is None and time.time() < end:
        if file.exists() and load_tensors(file, only_meta=True)[1]['step'] >= at: child.kill()
        time.sleep(.002)
    child.wait()


@pytest.mark.parametrize('optimiser', ['adamw', 'swats'])
def test_killed_and_resumed(tmp_path, optimiser):
    f = tmp_path/'state.safetensors'
    run_and_kill(optimiser, f)
    assert load_tensors(f)[1]['step'] < 8, 'the child was not killed in time'
    resumed,whole = trainer(optimiser),trainer(optimiser)
    resumed.run(f, measure_every=5)
    whole.run(measure_every=5)
    assert same_weights(whole, resumed)
    assert [r['step'] for r in resumed.log] == [r['step'] for r in whole.log] == [5, 8]
    assert same_log(whole, resumed)


def test_interrupted_within_a_step(tmp_path):
    "Ctrl-C after the generator's turn and before the discriminator's leaves no half step on disk"
    f = tmp_path/'state.safetensors'
    whole,cut,resumed = (trainer(steps=4, adversarial=1.) for _ in range(3))
    whole.run()
    move = cut.move
    def stop(player, pairs):
        if cut.step == 2 and player == 'discriminator': raise KeyboardInterrupt
        return move(player, pairs)
    cut.move = stop
    with pytest.raises(KeyboardInterrupt): cut.run(f, save_every=0)
    assert load_tensors(f)[1]['step'] == 2
    seed_all(5)                                             # whatever came before does not matter
    resumed.run(f)
    assert same_weights(whole, resumed) and same_log(whole, resumed)


def test_same_seed_same_weights_other_seed_others():
    a,b,c = trainer(steps=2),trainer(steps=2),trainer(steps=2, seed=2)
    for t in (a, b, c): t.run()
    assert same_weights(a, b) and not same_weights(a, c)


def test_a_follower_changes_nothing(tmp_path):
    "Neither weights nor log know whether somebody heard of every step; the best weights survive an interruption"
    heard,alone = trainer(),trainer()
    alone.run(measure_every=2)
    trainer().run(tmp_path/'state.safetensors', measure_every=2, until=5, tell=lambda t: None, tell_every=0)
    heard.run(tmp_path/'state.safetensors', measure_every=2, tell=lambda t: None, tell_every=0)
    assert same_weights(alone, heard) and same_log(alone, heard)
    assert [r['step'] for r in heard.minutes] == list(range(1, 9)) and alone.minutes == []
    best = max(alone.log, key=lambda r: r['psnr'])
    for t in (alone, heard):
        assert (t.best['step'], t.best['psnr']) == (best['step'], best['psnr'])
        with t.wearing(t.best['weights']) as system: assert held_out_psnr(system, t.sample) == best['psnr']
    assert same_weights(alone, heard)                                   # what the system wore is taken off again


def test_a_best_before_the_last(tmp_path):
    "A training whose later steps do harm keeps the weights from before"
    t = trainer(steps=4)
    scores = iter([20., 22., 21., 21.5])
    t.keep_if_best = lambda system, psnr, keep=t.keep_if_best: keep(system, next(scores))
    t.run(measure_every=1)
    assert (t.best['step'], t.best['psnr']) == (2, 22.)
    assert any(not torch.equal(v, t.average[k]) for k,v in t.best['weights'].items())


def test_a_checkpoint_from_before_there_was_a_best(tmp_path):
    f = tmp_path/'state.safetensors'
    trainer(steps=4).run(f, measure_every=1, until=2)
    tensors,meta = load_tensors(f)
    del meta['minutes']
    meta['state']['items'] = [item for item in meta['state']['items'] if item[0] != 'best']
    save_tensors(f, {k: v for k,v in tensors.items() if not k.startswith('.best')}, meta)
    resumed,whole = trainer(steps=4),trainer(steps=4)
    resumed.run(f, measure_every=1)
    whole.run(measure_every=1)
    assert same_weights(whole, resumed) and same_log(whole, resumed) and resumed.best['step'] > 2


def test_checkpoint_of_another_run(tmp_path):
    f = tmp_path/'state.safetensors'
    trainer(steps=2).run(f)
    with pytest.raises(InputError, match='belongs to another run'): trainer(steps=3).load(f)


def test_system_survives_the_disk(tmp_path):
    f = tmp_path/'s.safetensors'
    s = Suggested(**TINY).eval()
    save_net(f, s, 'system')
    clip = toy_store().frames('a')
    assert (reenact(load_net(f, 'system'), clip) == reenact(s, clip)).all()
    with pytest.raises(InputError, match="'first_order' is needed"): load_net(f, 'system', expect='first_order')


def test_damaged_checkpoint(tmp_path):
    f = tmp_path/'s.safetensors'
    save_net(f, Suggested(**TINY), 'system')
    f.write_bytes(f.read_bytes()[:-100])
    with pytest.raises(InputError, match='damaged'): load_net(f, 'system')


def test_relative_motion_leaves_the_first_pose():
    "With relative motion the first driving frame, whoever it shows, moves nothing"
    seed_all(0)
    s = Suggested(**TINY).eval()
    source,other = torch.rand(3, 32, 32), torch.rand(3, 32, 32)
    own = next(s.animate(source, [source]))
    assert (next(s.animate(source, [other], relative=True)) == own).all()


def test_training_learns_more_than_the_floor():
    t = trainer(steps=60)
    t.run(measure_every=60)
    assert t.log[-1]['psnr'] > held_out_psnr(CopySource(size=32), t.sample)


def test_first_order_published_sizes():
    def millions(*parts): return sum(p.numel() for m in parts for p in m.parameters())/1e6
    with torch.device('meta'): s = FirstOrder(perceptual=0.)
    assert millions(s.detector) == pytest.approx(14.2, abs=.05)
    assert millions(s.motion, s.generator) == pytest.approx(45.6, abs=.05)


@pytest.mark.parametrize('path', RELEASED, ids=lambda p: p.stem)
def test_released_files_still_load(path):
    "Headers hold `module:Class` of the day, or no class at all; every released file is older than today's modules"
    kind = load_tensors(path, only_meta=True)[1]['kind']
    meta,net = net_meta(path, kind),load_net(path, kind)
    assert meta['class'] == f'{type(net).__module__}:{type(net).__name__}'
    rooms = ('facestudy.systems.', 'facestudy.improved.') if kind == 'system' else 'facestudy.detectors.'
    assert meta['class'].startswith(rooms)
    assert net.name == meta['name'] == path.stem and not net.training


def test_every_kind_was_released():
    kinds = [load_tensors(path, only_meta=True)[1]['kind'] for path in RELEASED]
    assert set(kinds) == {'system', 'landmarker', 'parser', 'looker', 'carrier'} and kinds.count('system') > 10


@pytest.mark.parametrize('where,says', [('facestudy.attic:X2Face', 'has no system'),
                                        ('os:system', 'not part of facestudy'),
                                        ('facestudy.core:write_text', 'has no system')])
def test_only_networks_of_the_package_are_loaded(tmp_path, where, says):
    tensors,meta = load_tensors(ROOT/'data'/'checkpoints'/'x2face.safetensors')
    save_tensors(tmp_path/'x.safetensors', tensors, meta | {'class': where})
    with pytest.raises(InputError, match=says): load_net(tmp_path/'x.safetensors')


def test_aliases_name_modules_that_exist():
    assert set(MOVED.values()) <= {f'facestudy.{p.parent.name}.{p.stem}' for p in (ROOT/'facestudy').glob('*/*.py')}
