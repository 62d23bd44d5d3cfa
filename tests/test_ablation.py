"The grid at its smallest scale: a worker dies, a call is stopped, and nothing is lost"
import os
import threading
import time

import pandas as pd
import psutil
import pytest

from facestudy.core import ROOT, InputError
from facestudy.people.clips import default_parametric
from facestudy.study.ablation import (CONTRIBUTIONS, FACTORS, SCALES, cell, cell_name, data_of, factorial_cells, gather,
                                      keep, planned, read_results, run_of, run_tasks, store_results, task_name,
                                      tasks_of, tuning_tasks, work)


@pytest.fixture(scope='module')
def place(embedded, tmp_path_factory):
    "An empty folder for runs; skipped where the data cannot be had"
    try: default_parametric(32, 'smoke')
    except InputError as e: pytest.skip(f'no head asset on this machine: {e}')
    old = os.environ.get('FACESTUDY_RUNS')
    yield tmp_path_factory.mktemp('runs')
    if old is None: os.environ.pop('FACESTUDY_RUNS', None)
    else: os.environ['FACESTUDY_RUNS'] = old


CELLS = [(cell(superres='bicubic'), 0), (cell(landmarks='exact'), 0)]
SAME = ['psnr', 'ssim', 'landmark_error', 'stability', 'sharpness', 'coherence']


def tasks(cells=CELLS): return tasks_of('smoke', cells, [1e-3]*len(cells))


@pytest.fixture(scope='module')
def undisturbed(place):
    "Two cells, one after the other in this process"
    os.environ['FACESTUDY_RUNS'] = str(place/'calm')
    for n,t in tasks().items(): keep(n, work(t))
    return gather(tasks())


def workers():
    "The processes of the local farm"
    lines = {p: ' '.join(p.cmdline()) for p in psutil.Process().children()}
    return [p for p,line in lines.items() if 'spawn_main' in line and 'resource_tracker' not in line]


def test_a_killed_worker_loses_nothing(undisturbed, place, tmp_path):
    os.environ['FACESTUDY_RUNS'] = str(place/'killed')
    killed = []
    def murder():
        "Kill the first worker as soon as a training has begun"
        for _ in range(600):
            if list((place/'killed').glob('smoke-*')):
                first = workers()[0]
                first.kill()
                killed.append(first.pid)
                return
            time.sleep(.05)
    thread = threading.Thread(target=murder)
    thread.start()
    done = run_tasks(tasks(), tmp_path, 'ablation', workers=1)
    thread.join()
    assert killed, 'no worker was killed: the test has tested nothing'
    key = ['run', 'test', 'clip', 'bin']
    a,b = (r['rows'].sort_values(key).reset_index(drop=True) for r in (undisturbed, done))
    pd.testing.assert_frame_equal(a[key+SAME], b[key+SAME], rtol=1e-4)
    assert len(pd.read_csv(tmp_path/'ablation.missing.csv')) == 0


def test_only_what_is_missing_is_done(undisturbed, place, tmp_path, monkeypatch):
    os.environ['FACESTUDY_RUNS'] = str(place/'calm')
    monkeypatch.setattr('facestudy.study.ablation.work', None)                     # would fail if it were called
    done = run_tasks(tasks(), tmp_path, 'ablation', workers=1)
    assert list(done['runs'].cell) == [cell_name(c) for c,_ in CELLS]
    asked = done['rows'].groupby(done['rows'].run.map(done['runs'].set_index('run').cell)).test.unique()
    strange = {'turning', 'grimacing', 'cartoon', 'pencil'}
    assert all(len(tests) > 1 and not strange & set(tests) for tests in asked), 'for the base and other systems'
    back = read_results(tmp_path)
    assert set(FACTORS) <= set(back['rows']) and len(back['logs']) and back['looks']


def test_stored_tables_are_enough_to_go_on(undisturbed, place, tmp_path, monkeypatch):
    store_results(tmp_path, 'ablation', undisturbed)
    before = {p.name: p.read_bytes() for p in tmp_path.glob('*.csv')}
    os.environ['FACESTUDY_RUNS'] = str(place/'another machine')
    monkeypatch.setattr('facestudy.study.ablation.work', None)
    run_tasks(tasks(), tmp_path, 'ablation', workers=1)
    assert {p.name: p.read_bytes() for p in tmp_path.glob('*.csv')} == before


def test_a_result_is_named_by_its_run_alone(place):
    some = tasks()
    for (c,seed),name in zip(CELLS, some):
        run = run_of(c, 'smoke', data_of(c, 'smoke'), seed, 1e-3)
        assert name == task_name(run.id)
    elsewhere = tasks_of('smoke', CELLS, [1e-3]*len(CELLS), device='cpu')
    assert list(elsewhere) == list(some), 'another device is no other result'


def test_precision_is_part_of_the_scale(place):
    store,cells = data_of(cell(), 'smoke'),{cell_name(c): c for c,_ in planned('quick')}
    for profile,scale in SCALES.items():
        assert {run_of(c, profile, store, 0, 1e-3).recipe.precision for c in cells.values()} == {scale.precision}
    runs = read_results(ROOT/'reports')['runs']
    assert set(runs.precision) == {SCALES[runs.profile[0]].precision}, 'the stored tables were trained so'


def test_what_fails_is_told(undisturbed, place, tmp_path, monkeypatch):
    os.environ['FACESTUDY_RUNS'] = str(place/'calm')
    def unable(missing, *args, **kwargs): return dict.fromkeys(missing, 'the weights cannot be fetched.')
    monkeypatch.setattr('facestudy.study.ablation.farm', unable)
    some = tasks(CELLS[:1]) | tasks([(cell(encoder='resnet_imagenet'), 0)])
    run_tasks(some, tmp_path, 'ablation')
    missing = pd.read_csv(tmp_path/'ablation.missing.csv')
    assert list(missing.cell) == ['encoder=resnet_imagenet'] and 'cannot be fetched' in missing.reason[0]


def test_exact_landmarks_are_other_data_and_another_run(place):
    plain,exact = data_of(cell(), 'smoke'),data_of(cell(landmarks='exact'), 'smoke')
    assert plain.digest != exact.digest
    assert run_of(cell(), 'smoke', plain, 0, 1e-3).id != run_of(cell(landmarks='exact'), 'smoke', exact, 0, 1e-3).id


def test_names_do_not_depend_on_the_order_of_a_cell(place):
    c = cell(mask='off')
    assert list(tasks([(c, 0)])) == list(tasks([(dict(reversed(c.items())), 0)]))
    assert len(set(tuning_tasks('smoke')) & set(tasks())) == 0


def test_the_plan_holds_every_cell_often_enough():
    seeds = pd.Series([cell_name(c) for c,_ in planned('quick')]).value_counts()
    assert (seeds >= 3).all() and seeds['base'] == 5
    for f,off in CONTRIBUTIONS.items(): assert seeds[f'{f}={off}'] == 5
    assert {cell_name(c) for c in factorial_cells()} <= set(seeds.index)


def test_unknown_cells_and_profiles():
    with pytest.raises(InputError, match='no such cell'): cell(mask='maybe')
    with pytest.raises(InputError, match='no ablation grid'): planned('paper')
    with pytest.raises(InputError, match='facestudy ablation'): read_results('nowhere')
