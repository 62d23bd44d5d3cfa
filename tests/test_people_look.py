"Skin, hair, clothes, light: facestudy.people.skin, hair, look and render"
import numpy as np
import pytest

from facestudy.core import InputError, seed_all
from facestudy.data.landmarks import detect_faces
from facestudy.people.head import PARTS, REGIONS, head_asset

try: head_asset()
except InputError as e: pytest.skip(f'no head on this machine: {e}', allow_module_level=True)

from facestudy.people.hair import STYLES, grow
from facestudy.people.look import mesh_of, person
from facestudy.people.mesh import GLASSES
from facestudy.people.motion import sweep, talking_motion
from facestudy.people.shape import pose
from facestudy.people.raster import interpolate, rasterise
from facestudy.people.render import render, render_frame, render_speed
from facestudy.people.scenes import background, scene
from facestudy.people.shading import FRAME
from facestudy.people.skin import (TALL, WIDE, Brows, Hairline, Paint, above_hairline, beard_region, chart, on_map,
                                   paint_skin, skin_tone, uv_of_head)


@pytest.fixture(scope='module')
def people():
    "Eight people"
    return [person(i) for i in range(8)]

def labels(p, posed, size):
    "Region (size, size) that each pixel sees, 0 where nothing is"
    v,tri,_,region = mesh_of(p, posed)
    b = rasterise(v, tri, size, two_sided=p.look.mesh.two_sided)
    return np.where(b.triangle >= 0, region[b.triangle], 0)

def frame(p, s, size, **posed):
    "A picture as floats"
    return render_frame(p, s, pose(p.shape, **posed), 0., size).astype(float)


def test_seed_decides_everything(people):
    a,b = people[3],person(3)
    assert np.array_equal(a.look.texture[0], b.look.texture[0])
    assert np.array_equal(a.look.mesh.rest, b.look.mesh.rest)
    assert (a.look.style, a.look.cloth, a.look.beard) == (b.look.style, b.look.cloth, b.look.beard)
    assert np.array_equal(frame(a, scene(3), 32), frame(b, scene(3), 32))

def test_people_and_scenes_differ(people):
    ims = [frame(p, scene(0), 48) for p in people]
    apart = [np.abs(a-b).mean() for i,a in enumerate(ims) for b in ims[i+1:]]
    assert min(apart) > 4
    assert len({p.look.style for p in people}) > 3
    lit = [frame(people[0], scene(i), 48) for i in range(4)]
    assert min(np.abs(lit[0]-o).mean() for o in lit[1:]) > 4

def test_mesh(people):
    for p in people:
        v,tri,part,region = mesh_of(p, pose(p.shape))
        assert v.dtype == np.float32 and np.isfinite(v).all()
        assert 0 <= tri.min() and tri.max() < len(v)
        assert len(tri) == len(part) == len(region) == len(p.look.mesh.two_sided)
        assert 0 < region.min() and region.max() < len(REGIONS)
        assert np.array_equal(v[:len(p.shape.vertices)], pose(p.shape).vertices)      # the head's corners come first
        assert (part == PARTS.index('eye')).sum() > 100

def test_hair_is_rigid_near_the_skull(people):
    "A turn of the head carries the hair along; hanging ends stay behind"
    p = next(p for p in people if p.look.style in ('long', 'bob', 'wavy', 'fringe', 'curls'))
    m,n = p.look.mesh,len(p.look.mesh.rest)
    a,b = pose(p.shape),pose(p.shape, head=(30, 0, 0))
    rest,turned = mesh_of(p, a)[0][-n:],mesh_of(p, b)[0][-n:]
    apart = np.abs(turned-(rest@b.rotation.T+b.translation))
    full = m.hang > .999
    assert full.sum() > 100
    assert apart[full].max() < .02                                                        # cm
    assert apart[m.hang < .5].max() > .5

@pytest.fixture(scope='module')
def painted():
    "A pale head with dark roots: the painted map"
    tone,dark = np.array([.6, .4, .3]),np.array([.012, .01, .009])
    paint = Paint(tone, .1, .2, 0., Brows(0, .2, .3, 1, 0), dark, dark, Hairline(), .93, '', 0.)
    return paint_skin(paint, seed_all(4))

@pytest.mark.parametrize('name', sorted(STYLES))
def test_no_bare_skin_shows_between_the_hair(name, painted):
    "Inside the hairline a pixel shows hair, or skin on which hair is painted"
    head = head_asset()
    hair = grow(head.vertices, STYLES[name], Hairline(), seed_all(2))
    tri = np.concatenate([head.triangles, hair.triangles+len(head.vertices)])
    v = np.concatenate([head.vertices, hair.vertices])
    b = rasterise(v, tri, 96, two_sided=np.arange(len(tri)) >= len(head.triangles))
    skin = (b.triangle >= 0) & (b.triangle < len(head.triangles))
    inside = above_hairline(interpolate(b, tri, v), Hairline())
    uv = np.concatenate([uv_of_head(), np.zeros((len(hair.vertices), 2))])
    x,y = (interpolate(b, tri, uv)[skin & (inside > 1.)]*[WIDE, TALL]).astype(int).T
    roots = (painted[y.clip(0, TALL-1), x.clip(0, WIDE-1), 0]/255.)**2
    assert skin.sum() > 500
    assert len(roots) == 0 or roots.mean() < .22          # bare skin: .6, hair: .01
    assert len(roots) < .02*(b.triangle >= 0).sum()       # and there is little of it
    assert np.isfinite(hair.vertices).all()
    assert 0 <= hair.cover.min() and hair.cover.max() <= 1.001
    assert len(tri) < 45000

def test_face_stays_free_of_hair(people):
    for p in people:
        label = labels(p, pose(p.shape), 64)
        assert (label == REGIONS.index('mouth')).sum() > 10, p.seed
        assert (label == REGIONS.index('eyes')).sum() > 16, p.seed

def test_regions_cover_what_the_picture_shows(people):
    "A picture differs from the background exactly where some surface is seen, but for a pixel at the border"
    p,s = people[2],scene(11)
    change = np.abs(frame(p, s, 64)-np.round(background(s, 0., 64)*255))
    free = labels(p, pose(p.shape), 64) == 0
    inner = free.copy()
    inner[1:] &= free[:-1]
    inner[:-1] &= free[1:]
    inner[:, 1:] &= free[:, :-1]
    inner[:, :-1] &= free[:, 1:]
    assert inner.sum() > 300
    assert change[inner].max() <= 1

@pytest.mark.parametrize('yaw', (-15, 0, 15))
def test_viola_jones_sees_them(people, yaw):
    found = [detect_faces(render_frame(p, scene(p.seed), pose(p.shape, head=(yaw, 0, 0)), 0., 128)) for p in people]
    assert all(len(b) for b in found)
    x,_,side = (np.array([b[0] for b in found])[:, :3]/128).T
    assert .5 < side.mean() < .66
    assert abs((x+side/2).mean()-(.5+yaw*.007)) < .05     # the box follows the face

def test_eyes_and_mouth_react(people):
    p,s = people[7],scene(30)
    def at(**what): return render(p, s, sweep(1, **what), 96)[0].astype(float)
    rest,label = at(),labels(p, pose(p.shape), 96)
    for what,region in ((dict(gaze_yaw=20), 'eyes'), (dict(eyeBlink=1), 'eyes'), (dict(jawOpen=.6), 'mouth')):
        change = np.abs(at(**what)-rest).mean(-1)
        assert change[label == REGIONS.index(region)].mean() > 6*change[label == 0].mean()+2

def test_samples(people):
    "Four samples to a pixel are the mean of a picture of twice the side, before rounding and tone mapping"
    p,s = people[5],scene(5)
    posed = pose(p.shape)
    fine = render_frame(p, s, posed, 0., 128, 1).astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(fine-render_frame(p, s, posed, 0., 64, 2)).mean() < 2.5

def test_render_is_its_frames(people):
    m,p,s = talking_motion(2, 12),people[1],scene(1)
    clip = render(p, s, m, 32, 3, 6)
    assert clip.shape == (3, 32, 32, 3) and clip.dtype == np.uint8
    posed = pose(p.shape, m.weights[4], m.head[4], m.gaze[4], m.shift[4])
    assert np.array_equal(clip[1], render_frame(p, s, posed, 4/m.fps, 32))

def test_background_moves_as_it_says():
    scenes = [scene(i) for i in range(24)]
    moving,still = [s for s in scenes if s.drift[0]],[s for s in scenes if not s.drift[0]]
    assert moving and still
    assert np.array_equal(background(still[0], 0., 32), background(still[0], 3., 32))
    assert max(np.abs(s.offset(t)).max() for s in moving for t in np.arange(0, 12, .5)) < .12

def test_tone_follows_ancestry():
    african,asian,caucasian = (np.mean([skin_tone(a, seed_all(i))[0] for i in range(30)]) for a in np.eye(3))
    assert african < .5*asian < caucasian

def test_map_closes():
    u,_ = on_map(np.linspace(-180, 180, 50), 0.)
    assert (np.diff(u) > 0).all() and u[0] == 0 and u[-1] == 1
    turn,climb,r = chart([[0., 1., 2.], [0., -9., 2.]])
    assert np.allclose(turn, 0)
    assert np.allclose(climb, [0, -10], atol=1e-4)
    assert np.allclose(r, 9)

@pytest.mark.parametrize('style', ('full', 'goatee', 'moustache'))
def test_beards_keep_off_the_lips(style):
    head = head_asset()
    on = beard_region(head.vertices, style)
    assert on.max() > .9
    assert on[head.landmarks[48:68]].max() < .3

def test_speed_is_measured():
    s = render_speed(32, frames=2, people=1)
    assert s['frames/s'] > 0
    assert 0 < s['person s'] < 60


# --- glasses

@pytest.fixture(scope='module')
def wearer():
    "The third person with glasses"
    return person(3, 'panto')

def test_glasses_change_nothing_else(people, wearer):
    a,b = people[3].look,wearer.look
    n,t = len(a.mesh.rest),len(a.mesh.triangles)
    assert np.array_equal(a.texture[0], b.texture[0]) and np.array_equal(a.strands[0], b.strands[0])
    assert np.array_equal(a.colours[:11], b.colours[:11]) and not a.colours[11:].any()
    assert np.array_equal(a.mesh.rest, b.mesh.rest[:n]) and np.array_equal(a.mesh.triangles, b.mesh.triangles[:t])
    assert (b.mesh.material[t:] == FRAME).all() and not (a.mesh.material == FRAME).any()
    bare,worn = (frame(p, scene(3), 96) for p in (people[3], wearer))
    label = labels(people[3], pose(people[3].shape), 96)
    far = np.isin(label, [0, REGIONS.index('mouth')])
    assert .03 < (bare != worn).any(-1).mean() < .3
    assert (bare != worn)[far].mean() < .02                       # background and mouth; a temple sticks out

def test_glasses_are_rigid(wearer):
    m,shape = wearer.look.mesh,wearer.shape
    n = len(np.unique(m.triangles[m.material == FRAME]))
    rest = mesh_of(wearer, pose(shape))[0][-n:]
    assert np.array_equal(mesh_of(wearer, pose(shape, weights=np.ones(52)))[0][-n:], rest)
    turned = pose(shape, head=(30, -10, 5), shift=(1, 2, 0))
    assert np.allclose(mesh_of(wearer, turned)[0][-n:], rest@turned.rotation.T+turned.translation, atol=1e-4)

@pytest.mark.parametrize('style', GLASSES)
@pytest.mark.parametrize('seed', [100, 101, 102])
def test_the_front_is_in_front_of_the_face(seed, style):
    "Seen from the front nothing of the face covers the rims"
    p = person(seed, style)
    v,tri,_,_ = mesh_of(p, pose(p.shape))
    m = p.look.mesh
    mine = m.material == FRAME
    front = mine & (v[tri][..., 2].min(1) > 1.) & (np.abs(v[tri][..., 0]).max(1) < 5)
    alone,skin = (rasterise(v, tri[k], 256, two_sided=m.two_sided[k]).depth for k in (front, m.material < 4))
    on = np.isfinite(alone)
    assert on.sum() > 300 and (alone < skin)[on].all()

def test_unknown_glasses_are_refused():
    with pytest.raises(InputError, match="'monocle' is no style of glasses; choose one of square"): person(3, 'monocle')
