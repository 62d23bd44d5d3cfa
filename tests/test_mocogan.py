"MoCoGAN, conditional and not: one content for a video, a walk of motion codes through it, two judges"
import numpy as np
import pytest
import torch
from facestudy.core import InputError, seed_all
from facestudy.systems.mocogan import MoCoGAN, RunDiscriminator, UnconditionalMoCoGAN, train_unconditional
from facestudy.data.pairs import Pairs
from facestudy.nets import load_net, save_net

TINY = dict(size=32, encoders=[8, 8], decoder=8, discriminators=8)


@pytest.fixture(autouse=True)
def same_chance():
    torch.set_num_threads(1)
    seed_all(0)


def batch(runs=2, n=8, size=32):
    "Runs of n frames, each with one source"
    nan = torch.full((runs*n, 4), torch.nan)
    return Pairs(torch.rand(runs, 3, size, size).repeat_interleave(n, 0), torch.rand(runs*n, 3, size, size), nan, nan)


def frames(system, source, video, **kw): return np.stack(list(system.animate(source, video, **kw)))


def test_terms_and_gradients():
    s,pairs = MoCoGAN(**TINY),batch()
    terms = s.losses('generator', pairs)
    assert set(terms) == {'l1', 'image', 'video'}
    sum(terms.values()).backward()
    kernels = [p for m in s.players()['generator'] for p in m.parameters() if p.ndim > 1]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in kernels)
    assert all(p.grad is None for p in s.discriminator.parameters())
    s.zero_grad()
    sum(s.losses('discriminator', pairs).values()).backward()
    assert all(p.grad is not None for p in s.discriminator.parameters())
    assert all(p.grad is None for m in s.players()['generator'] for p in m.parameters())


def test_without_discriminators_and_with_the_shared_reconstruction():
    s = MoCoGAN(**TINY, l1=0., pixels=1., adversarial=0.)
    assert list(s.players()) == ['generator'] and set(s.losses('generator', batch())) == {'pixels'}


@pytest.mark.parametrize('n', [1, 2, 8])
def test_runs_of_any_length(n):
    s = MoCoGAN(**TINY, run_length=n)
    assert s.run_length == n and set(s.losses('generator', batch(2, n))) == {'l1', 'image', 'video'}


def test_broken_runs_are_refused():
    with pytest.raises(InputError, match='6 pairs are no whole runs of 8 frames'):
        MoCoGAN(**TINY).losses('generator', batch(1, 6))


@pytest.mark.parametrize('size', [4, 48, 100])
def test_sides_that_do_not_halve(size):
    with pytest.raises(InputError, match='use 32, 64, 128 or 256'): MoCoGAN(**TINY | {'size': size})


@pytest.mark.parametrize('size', [16, 64, 128])
def test_other_sides(size):
    s = MoCoGAN(**TINY | {'size': size})
    assert s(torch.rand(1, 3, size, size), torch.rand(1, 8, 3, size, size)).shape == (1, 8, 3, size, size)
    assert set(s.losses('generator', batch(1, 8, size))) == {'l1', 'image', 'video'}


def test_source_speaks_once_through_its_content():
    "The source reaches a frame through z_C and the walk's start alone: with both given, no pixel of it is needed"
    s = MoCoGAN(**TINY).eval()
    source,video = torch.rand(1, 3, 32, 32), torch.rand(1, 5, 3, 32, 32)
    content,state = s.start(source)
    assert content.shape == (1, 50) and state.shape == (1, 10)
    seen = []
    for m in (s.content, s.motion): m.register_forward_hook(lambda m, i, o: seen.append((m, len(i[0]))))
    s(source, video)
    assert seen == [(s.content, 1), (s.motion, 1), (s.motion, 5)]


def test_driving_frames_speak_through_ten_numbers():
    "Two driving frames with one code give one picture"
    s = MoCoGAN(**TINY).eval()
    s.motion.head.weight.data[:] = 0                       # blind: every frame has the same code
    source = torch.rand(3, 32, 32)
    a,b = frames(s, source, torch.rand(4, 3, 32, 32)), frames(s, source, torch.rand(4, 3, 32, 32))
    assert (a == b).all()


def test_the_past_matters_and_the_future_does_not():
    s = MoCoGAN(**TINY).eval()
    source,video = torch.rand(1, 3, 32, 32), torch.rand(1, 6, 3, 32, 32)
    other = video.clone()
    other[:, 2] = 1-other[:, 2]
    with torch.no_grad(): change = (s(source, video)-s(source, other)).abs().amax((0, 2, 3, 4))
    assert (change[:2] < 1e-6).all() and (change[2:4] > 1e-5).all()


def test_chunks_make_no_difference():
    s = MoCoGAN(**TINY).eval()
    source,video = torch.rand(3, 32, 32), torch.rand(9, 3, 32, 32)
    whole = frames(s, source, video).astype(int)
    assert whole.shape == (9, 32, 32, 3)
    for n in (1, 4): assert np.abs(frames(s, source, video, batch=n)-whole).max() <= 1
    relative = frames(s, source, video, batch=4, relative=True)
    assert np.abs(relative-whole).max() <= 1 # relative motion does not exist here


def test_animates_lazily():
    taken = []
    def video():
        for i in range(100):
            taken.append(i)
            yield torch.rand(3, 32, 32)
    out = MoCoGAN(**TINY).eval().animate(torch.rand(3, 32, 32), video(), batch=4)
    for _ in range(3): assert next(out).dtype == np.uint8
    assert len(taken) == 4


def test_survives_the_disk_without_discriminators(tmp_path):
    f,s = tmp_path/'s.safetensors', MoCoGAN(**TINY).eval()
    save_net(f, s, 'system')
    source,video = torch.rand(3, 32, 32), torch.rand(5, 3, 32, 32)
    assert (frames(load_net(f, 'system', expect='mocogan'), source, video) == frames(s, source, video)).all()
    del s.discriminator
    assert frames(s, source, video).shape == (5, 32, 32, 3)


@pytest.mark.parametrize('frames', [1, 2, 5, 8, 16])
def test_discriminator_sees_all_frames(frames):
    "Every frame of a run moves the score"
    d,x = RunDiscriminator(frames, 32, 4).eval(), torch.rand(1, frames, 3, 32, 32, requires_grad=True)
    y = d(x)
    assert y.shape[:3] == (1, 1, 1)
    y.sum().backward()
    assert (x.grad.abs().sum((0, 2, 3, 4)) > 0).all()


def test_learns_one_clip():
    "A square that wanders: much nearer after sixty steps, and the averaged position follows"
    clip = torch.zeros(16, 3, 32, 32)
    for t in range(16): clip[t, :, 8:20, t:t+12] = 1.
    s,nan = MoCoGAN(**TINY, adversarial=0., run_length=16),torch.full((16, 4), torch.nan)
    opt = torch.optim.AdamW(s.parameters(), 4e-3)
    losses = []
    for _ in range(60):
        loss = s.losses('generator', Pairs(clip[:1].expand(16, -1, -1, -1), clip, nan, nan))['l1']
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < .3*losses[0], (losses[0], losses[-1])
    with torch.no_grad(): out = s.eval()(clip[:1], clip[None])[0].mean(1)
    centre = (out*torch.arange(32.)).sum((1, 2))/out.sum((1, 2))
    assert np.corrcoef(centre, np.arange(16))[0, 1] > .9


def test_unconditional_draws_videos():
    base = UnconditionalMoCoGAN(32, width=8, discriminators=8, frames=4)
    assert base(2).shape == (2, 4, 3, 32, 32) and base(1, 9).shape == (1, 9, 3, 32, 32)
    clips = [torch.rand(6, 3, 32, 32), torch.rand(4, 3, 32, 32)]
    seed_all(1)
    before = {k: v.clone() for k,v in base.state_dict().items()}
    log = train_unconditional(base, clips, 2, batch=2)
    assert len(log) == 2 and set(log[0]) == {'image', 'video', 'D image', 'D video'}
    for part in ('walk.cell.weight_hh', 'decoder.head.weight', 'discriminator.image.head.conv.weight',
                 'discriminator.video.head.conv.weight'):
        assert not torch.equal(before[part], base.state_dict()[part]), part


def test_unconditional_needs_whole_runs():
    base = UnconditionalMoCoGAN(32, width=8, discriminators=8, frames=8)
    with pytest.raises(InputError, match='5 frames'): train_unconditional(base, [torch.rand(5, 3, 32, 32)], 1)
