"A training killed at any moment goes on bit for bit"
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from facestudy.core import ROOT, InputError, load_tensors, seed_all
from facestudy.systems.first_order import FirstOrder
from facestudy.systems.suggested import Suggested
from facestudy.training.trainer import CopySource, Recipe, Trainer, held_out_psnr, load_system, reenact, save_system

TINY = dict(size=32, motion_widths=[8, 16], generator_widths=[8, 16], perceptual=0., pixels=1.)


def toy_store():
    "One made-up clip: a square that wanders over a gradient"
    clip = np.zeros((12, 32, 32, 3), np.uint8)
    clip[..., 0] = np.arange(32)*8
    for t in range(12): clip[t, 8:20, t+2:t+14] = 200
    seg = SimpleNamespace(name='a', identity='a', start=0, stop=12)
    return SimpleNamespace(frames=lambda n: clip, faces=lambda n: np.full((12, 4), np.nan, np.float32), segments=lambda s: [seg], digest='toy')


def trainer(recipe='adamw', steps=8):
    torch.set_num_threads(1)
    seed_all(0)
    return Trainer(Suggested(**TINY), toy_store(), Recipe(steps=steps, batch=2, optimiser=recipe, average=.2), seed=1, device='cpu')


def weights(t): return {k: v.clone() for k,v in t.system.state_dict().items()}


@pytest.mark.parametrize('optimiser', ['adamw', 'swats'])
def test_killed_and_resumed(tmp_path, optimiser):
    f = tmp_path/'state.safetensors'
    code = f"import sys; sys.path.insert(0, {str(__file__).rsplit('/', 1)[0]!r}); from test_training import trainer; trainer({optimiser!r}).run({str(f)!r}, save_every=0, measure_every=5)"
    child = subprocess.Popen([sys.executable, '-c', code])
    end = time.time()+120
    while child.poll() is None and time.time() < end:
        if f.exists() and load_tensors(f)[1]['step'] >= 2: child.kill()      # in mid-step, without warning
        time.sleep(.01)
    child.wait()
    assert load_tensors(f)[1]['step'] < 8, 'the child was not killed in time'
    resumed,whole = trainer(optimiser),trainer(optimiser)
    resumed.run(f, measure_every=5); whole.run(measure_every=5)
    for k,v in weights(whole).items(): assert torch.equal(v, weights(resumed)[k]), k
    assert [r['step'] for r in resumed.log] == [r['step'] for r in whole.log] == [5, 8]
    for a,b in zip(resumed.log, whole.log): assert {**a, 'seconds': 0} == {**b, 'seconds': 0}


def test_interrupted_within_a_step(tmp_path):
    "Ctrl-C after the generator's move and before the discriminator's leaves no half step on disk"
    f = tmp_path/'state.safetensors'
    gan = lambda: Trainer(Suggested(**TINY | {'adversarial': 1.}), toy_store(), Recipe(steps=4, batch=2), seed=1, device='cpu')
    torch.set_num_threads(1)
    seed_all(0); whole = gan(); whole.run()
    seed_all(0); cut = gan(); move = cut.move
    def stop(player, pairs):
        if cut.step == 2 and player == 'discriminator': raise KeyboardInterrupt
        return move(player, pairs)
    cut.move = stop
    with pytest.raises(KeyboardInterrupt): cut.run(f, save_every=0)
    assert load_tensors(f)[1]['step'] == 2
    seed_all(5); resumed = gan(); resumed.run(f)
    for k,v in weights(whole).items(): assert torch.equal(v, weights(resumed)[k]), k
    for a,b in zip(resumed.log, whole.log): assert {**a, 'seconds': 0} == {**b, 'seconds': 0}


def test_same_seed_same_weights_other_seed_others():
    a,b = trainer(steps=2),trainer(steps=2)
    a.run(); b.run()
    assert all(torch.equal(v, weights(b)[k]) for k,v in weights(a).items())
    c = trainer(steps=2); c.seed = 2; c.run()
    assert any(not torch.equal(v, weights(c)[k]) for k,v in weights(a).items())


def test_checkpoint_of_another_run(tmp_path):
    f = tmp_path/'state.safetensors'
    trainer(steps=2).run(f)
    with pytest.raises(InputError, match='belongs to another run'): trainer(steps=3).load(f)


def test_system_survives_the_disk(tmp_path):
    f = tmp_path/'s.safetensors'
    s = Suggested(**TINY).eval()
    save_system(f, s)
    clip = toy_store().frames('a')
    assert (reenact(load_system(f), clip) == reenact(s, clip)).all()
    with pytest.raises(InputError, match="'first_order' is needed"): load_system(f, expect='first_order')


def test_damaged_checkpoint(tmp_path):
    f = tmp_path/'s.safetensors'
    save_system(f, Suggested(**TINY))
    f.write_bytes(f.read_bytes()[:-100])
    with pytest.raises(InputError, match='damaged'): load_system(f)


def test_relative_motion_leaves_the_first_pose(tmp_path):
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
    count = lambda *parts: sum(p.numel() for m in parts for p in m.parameters())/1e6
    s = FirstOrder(perceptual=0.)
    assert count(s.detector) == pytest.approx(14.2, abs=.05)
    assert count(s.motion, s.generator) == pytest.approx(45.6, abs=.05)


def test_files_written_before_the_classes_moved_still_load(tmp_path):
    "Headers hold `module:Class` of the day; every released file is older than today's rooms"
    from facestudy.core import load_tensors, save_tensors
    from facestudy.training.trainer import MOVED, load_system
    for released in sorted((ROOT/'data'/'checkpoints').glob('*.safetensors')):
        tensors,meta = load_tensors(released)
        if meta['kind'] != 'system': continue
        old = meta['class'].partition(':')[0]
        assert MOVED.get(old, old).startswith('facestudy.systems.')
        assert load_system(released).name == meta['name']
    tensors,meta = load_tensors(ROOT/'data'/'checkpoints'/'x2face.safetensors')
    save_tensors(tmp_path/'x.safetensors', tensors, meta | {'class': 'facestudy.attic:X2Face'})
    with pytest.raises(InputError, match='has no system'): load_system(tmp_path/'x.safetensors')
