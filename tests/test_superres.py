"Super-resolution: shapes, the bicubic start, learning, repeatability, checkpoints"
import itertools

import numpy as np
import pytest
import torch
from skimage import data

from facestudy.core import InputError, save_tensors, to_numpy, to_tensor
from facestudy.method.superres import (SuperResolution, bicubic, degrade, enlarge, face_patches, sr_loss, superres_cost,
                                       train_superres)
from facestudy.nets import load_net, save_net

STEPS = 110 # Of the training that must beat bicubic

def noise(rng, batch, side=32):
    "Any images will do where only the machinery is tested"
    return torch.tensor(rng.random((batch, 3, side, side)), dtype=torch.float32)

@pytest.mark.parametrize('h,w', [(32, 32), (33, 65), (7, 50), (1, 1)])
@pytest.mark.parametrize('scale', [1, 2, 4])
def test_any_size_and_bicubic_start(h, w, scale):
    low = torch.rand(2, 3, h, w)
    net = SuperResolution(4, scale).eval()
    assert net(low).shape == (2, 3, h*scale, w*scale)
    torch.testing.assert_close(net(low), bicubic(low, scale).clamp(0, 1), rtol=0, atol=0)

def test_every_layer_learns():
    net = SuperResolution(4)
    torch.nn.init.normal_(net.paint.weight)
    sr_loss(net(torch.rand(1, 3, 32, 32)), torch.rand(1, 3, 64, 64)).backward()
    assert [n for n,p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []

def test_skips_join_block_i_to_n_minus_i_plus_1():
    net,skips,received = SuperResolution(4),[],[]
    for d in net.downs: d.register_forward_hook(lambda module, args, out: skips.append(out[1]))
    for u in net.ups: u.register_forward_hook(lambda module, args, out: received.append(args[1]))
    net(torch.rand(1, 3, 32, 32))
    assert len(net.downs) == len(net.ups) == len(skips) == len(received) == 5
    assert all(a is b for a,b in zip(skips, reversed(received)))

def test_eq7_is_the_mean_square():
    a,b = np.random.default_rng(0).random((2, 2, 3, 5, 5))
    assert float(sr_loss(torch.tensor(a), torch.tensor(b))) == pytest.approx(((a-b)**2).mean())

def test_degrade_averages_squares():
    x = np.random.default_rng(0).random((1, 3, 8, 8))
    np.testing.assert_allclose(degrade(torch.tensor(x), 4).numpy(), x.reshape(1, 3, 2, 4, 2, 4).mean((3, 5)))
    with pytest.raises(ValueError, match='does not divide'): degrade(torch.tensor(x), 3)

def test_beats_bicubic_on_a_face_it_has_not_seen():
    photo = data.astronaut()
    model,log = train_superres(face_patches(photo[None, 224:], 32), steps=STEPS, width=8)          # suit and flag
    high = to_tensor(photo[:200, 120:320])[None]                                                   # head
    small = degrade(high)
    with torch.no_grad(): ours,theirs = sr_loss(model(small), high),sr_loss(bicubic(small).clamp(0, 1), high)
    assert ours < .95*theirs
    assert len(log) == STEPS and not model.training

def test_same_seed_same_bits():
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    runs = [train_superres(frames, steps=3, batch=2, seed=s, width=4) for s in (1, 1, 2)]
    same = [all(torch.equal(p, q) for p,q in zip(runs[0][0].parameters(), r[0].parameters())) for r in runs]
    assert same == [True, True, False]
    assert runs[0][1].equals(runs[1][1])

def test_patches_are_cut_from_the_frames():
    frames = np.arange(2*16*16*3).reshape(2, 16, 16, 3) % 251
    frames,there = frames.astype(np.uint8),set()
    for f,y,x,s in itertools.product(frames, range(9), range(9), (1, -1)): there.add(f[y:y+8, x:x+8][:, ::s].tobytes())
    drawn = face_patches([frames], 8)(np.random.default_rng(0), 20)
    assert all(to_numpy(o).tobytes() in there for o in drawn)

def test_enlarge_leaves_the_mode_alone_and_does_not_depend_on_the_batch():
    frames = np.random.default_rng(0).integers(0, 255, (5, 20, 24, 3), dtype=np.uint8)
    model = SuperResolution(4).train()
    out = enlarge(frames, model, batch=2)
    assert out.shape == (5, 40, 48, 3) and out.dtype == np.uint8 and model.training
    np.testing.assert_allclose(out[3].astype(int), enlarge(frames[3], model), atol=1)

def test_cost_grows_with_area_and_width():
    small,big = superres_cost(SuperResolution(8), 32), superres_cost(SuperResolution(8), 64)
    assert big['gmacs'] == pytest.approx(4*small['gmacs'])
    assert big['parameters'] == small['parameters'] < superres_cost(SuperResolution(16), 32)['parameters']

def test_checkpoint_round_trip(tmp_path):
    model = train_superres(noise, steps=2, width=4)[0]
    save_net(tmp_path/'new'/'sr.safetensors', model, 'superres', clips='digest')
    back = load_net(tmp_path/'new'/'sr.safetensors', 'superres')
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(back(x), model(x))

@pytest.mark.parametrize('meta,says', [({'kind': 'suggested'}, 'not a trained superres'),
                                       ({}, 'not a trained superres'),
                                       ({'kind': 'superres', 'version': 99, 'width': 4, 'scale': 2}, 'version 99'),
                                       ({'kind': 'superres', 'version': 1, 'width': 8, 'scale': 2}, 'do not fit'),
                                       ({'kind': 'superres', 'version': 1}, 'do not fit')])
def test_foreign_checkpoints_are_refused(tmp_path, meta, says):
    f = tmp_path/'sr.safetensors'
    save_tensors(f, SuperResolution(4).state_dict(), meta)
    with pytest.raises(InputError, match=says): load_net(f, 'superres')

def test_damaged_and_missing_checkpoints_are_refused(tmp_path):
    f = tmp_path/'sr.safetensors'
    save_net(f, SuperResolution(4), 'superres')
    f.write_bytes(f.read_bytes()[:-1])
    with pytest.raises(InputError, match='damaged'): load_net(f, 'superres')
    with pytest.raises(InputError, match='no such file'): load_net(tmp_path/'none.safetensors', 'superres')
