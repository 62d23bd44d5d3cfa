"The camera and the z-buffer: facestudy.people.raster"
import numpy as np
import pytest

from facestudy.people.raster import (CENTRE, DISTANCE, WINDOW, interpolate, lit, occlusion, project, rasterise,
                                     shadow_map, unproject, vertex_normals)

C = WINDOW/2
TWO = np.array([[0, 1, 2], [0, 2, 3]])
SIDES = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])


def square(half=C, z=0., x=0., y=0.):
    "Corners (4, 3) of a square around the camera's axis, cm"
    return SIDES*half + [CENTRE[0]+x, CENTRE[1]+y, z]


@pytest.mark.parametrize('size', (16, 63, 128))
def test_project_and_back(size):
    p = np.random.default_rng(size).normal(size=(40, 3))*[8, 8, 12]
    px,depth = project(p, size)
    assert np.allclose(depth, DISTANCE-p[:, 2])
    assert np.allclose(unproject(px, depth, size), p)

def test_larger_picture_same_place():
    "Pixel edges of a picture fall on pixel edges of one twice as large"
    p = np.random.default_rng(0).normal(size=(20, 3))*6
    small,large = project(p, 64)[0],project(p, 128)[0]
    assert np.allclose(2*(small+.5), large+.5)

@pytest.mark.parametrize('size', (8, 32, 33))
def test_exact_coverage(size):
    "Two triangles of a square share its pixels, also where the diagonal meets pixel centres: none twice, none left out"
    a,b = (rasterise(square(), TWO[i:i+1], size).triangle >= 0 for i in (0, 1))
    assert (a ^ b).all()
    assert (rasterise(square(C/2), TWO, 32).triangle >= 0).sum() == 16*16

def test_fan_has_no_gaps():
    "Thin triangles around a point, with corners anywhere: every pixel of the inside belongs to exactly one"
    rng = np.random.default_rng(3)
    n = 37
    angle = np.sort(rng.uniform(0, 2*np.pi, n))
    ring = np.stack([9*np.cos(angle), 9*np.sin(angle), np.zeros(n)], -1)+[*CENTRE, 0]
    v = np.concatenate([[[.137+CENTRE[0], -.211+CENTRE[1], 0]], ring])
    fan = np.array([[0, 1+i, 1+(i+1)%n] for i in range(n)])
    count = sum((rasterise(v, fan[i:i+1], 90).triangle >= 0).astype(int) for i in range(n))
    whole = rasterise(v, fan, 90).triangle >= 0
    assert count.max() == 1
    assert (count == whole).all()
    assert whole[30:60, 30:60].all()

def test_back_sides():
    assert (rasterise(square(), TWO[:, ::-1], 16).triangle < 0).all()
    assert (rasterise(square(), TWO[:, ::-1], 16, two_sided=True).triangle >= 0).all()
    one_turned = np.concatenate([TWO[:1], TWO[1:, ::-1]])
    assert (rasterise(square(), one_turned, 16, two_sided=[False, True]).triangle >= 0).all()

def test_nearest_wins_in_any_order():
    near,far = square(4, 10, 1),square(4, -10, -1)
    four = np.concatenate([TWO, TWO+4])
    one = rasterise(np.concatenate([far, near]), four, 64)
    other = rasterise(np.concatenate([near, far]), four, 64)
    assert np.array_equal(one.depth, other.depth)
    px = np.round(project([1+CENTRE[0], CENTRE[1], 10], 64)[0]).astype(int)
    assert np.isclose(one.depth[px[1], px[0]], DISTANCE-10)

def test_weights_are_perspective_correct():
    floor = np.array([[-12, -10, 30], [12, -10, 30], [12, -6, -60], [-12, -6, -60]], float)
    b = rasterise(floor, TWO, 128)
    y,x = np.nonzero(b.triangle >= 0)
    assert len(y) > 500
    assert np.allclose(b.bary[y, x].sum(-1), 1, atol=1e-4)
    there = interpolate(b, TWO, floor)[y, x]
    px,depth = project(there, 128)
    assert np.abs(px-np.stack([x, y], -1)).max() < .02                       # corners are rounded to 1/256 pixel
    assert np.allclose(depth, b.depth[y, x], rtol=1e-4)

def test_offsets_are_the_samples_of_a_larger_picture():
    rng = np.random.default_rng(1)
    v = rng.normal(size=(30, 3))*[6, 6, 4]
    tri = rng.integers(0, 30, (25, 3))
    large = rasterise(v, tri, 64, two_sided=True)
    for j,dy in enumerate((-.25, .25)):
        for i,dx in enumerate((-.25, .25)):
            part = rasterise(v, tri, 32, offset=(dx, dy), two_sided=True)
            same = part.triangle == large.triangle[j::2, i::2]
            assert same.mean() > .985  # rounding of corners differs by 1/512 pixel

def test_nothing_to_draw_and_behind_the_camera():
    empty = rasterise(np.zeros((0, 3)), np.zeros((0, 3), int), 8)
    assert (empty.triangle == -1).all()
    assert np.isinf(empty.depth).all()
    with pytest.raises(ValueError, match='behind the camera'): rasterise(square(z=DISTANCE), TWO, 8)
    aside = rasterise(square(2, x=500), TWO, 8)
    assert (aside.triangle == -1).all()

def test_shadow():
    board,wall = square(3, 10),square(16, -10)
    v = np.concatenate([board, wall]).astype(np.float32)
    shadows = shadow_map(v, np.concatenate([TWO, TWO+4]).astype(np.int32), [0, 0, 1])
    def ask(x, y, z): return lit(*shadows, (x, y, z), .3)
    assert ask(0., CENTRE[1], -10.) == 0
    assert ask(0., CENTRE[1], 10.) == 1
    assert ask(8., CENTRE[1], -10.) == 1
    assert ask(300., 0., 0.) == 1                                            # what lies outside the map is lit

def test_occlusion_of_a_plane_is_none():
    v = square(15).astype(np.float32)
    n = vertex_normals(v, TWO.astype(np.int32))
    assert np.allclose(n, [0, 0, 1])
    assert (occlusion(v, TWO.astype(np.int32), n) > .95).all()
