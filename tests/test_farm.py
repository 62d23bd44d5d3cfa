"Tasks spread over workers: the same results whoever does them, and nothing lost when workers, tasks or people stop"
import json, os, signal, threading, time
from pathlib import Path

import psutil
import pytest
import torch

from facestudy import farm as module
from facestudy.core import InputError, seed_all, write_text
from facestudy.farm import farm, time_left


def draw(seed): return int(seed_all(seed).integers(10**6))

def crooked(seed):
    if seed == 1: raise InputError('weights of task 1: not reachable; fetch them.')
    if seed == 2: return [][seed]
    return seed

def deadly(seed):
    if seed == 0: os.kill(os.getpid(), signal.SIGKILL)
    return seed

def settings(_): return torch.get_num_threads(), os.environ['OMP_NUM_THREADS'], os.environ['FACESTUDY_PROGRESS'], os.environ['FACESTUDY_TEST']

def counting(argument, n=20, pause=.05):
    "Counts to `n` from its checkpoint, leaving the process and the moment of each step"
    file = Path(argument)
    steps = json.loads(file.read_text()) if file.exists() else []
    while len(steps) < n:
        steps.append(os.getpid()); write_text(file, json.dumps(steps))
        time.sleep(pause)
    return steps

def saving(argument):
    "Endless; saves when it is interrupted, as a training does"
    Path(argument).with_suffix('.begun').touch()
    try:
        while True: time.sleep(.01)
    except KeyboardInterrupt: write_text(argument, 'saved'); raise

def first_or_saving(argument): return 'first' if argument is None else saving(argument)

def workers_alive(): return [p.pid for p in psutil.Process().children(recursive=True) if 'spawn_main' in ' '.join(p.cmdline())]

def wait_for(true, seconds=30):
    end = time.time()+seconds
    while not true():
        assert time.time() < end, 'it never came'
        time.sleep(.02)


def test_results_do_not_depend_on_the_workers():
    tasks,one,two = {f'task {i}': i for i in range(8)},{},{}
    assert farm(tasks, draw, one.__setitem__, workers=1) == farm(tasks, draw, two.__setitem__, workers=2) == {}
    assert one == two == {k: draw(v) for k,v in tasks.items()}
    assert list(one) == list(tasks), 'one worker does the tasks in the order given'
    assert not workers_alive()


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(module, '_local', None)
    assert farm({}, draw, None) == {}


def test_a_local_worker_has_one_thread_and_the_variables_of_the_parent(monkeypatch):
    monkeypatch.setenv('FACESTUDY_TEST', 'seen')
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    got = {}
    assert farm({'a': 0}, settings, got.__setitem__, workers=1) == {}
    assert got['a'] == (1, '1', '0', 'seen')
    assert os.environ['OMP_NUM_THREADS'] == '2'


@pytest.mark.parametrize('kind', [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_killed_in_mid_run_loses_nothing(tmp_path, kind):
    got,said,killed,files = {},[],[],[tmp_path/f'{i}.json' for i in range(4)]
    def kill():
        wait_for(lambda: files[0].exists() and len(json.loads(files[0].read_text())) >= 5)
        killed.append(json.loads(files[0].read_text())[0]); os.kill(killed[0], kind)
    threading.Thread(target=kill, daemon=True).start()
    assert farm({f.stem: str(f) for f in files}, counting, got.__setitem__, workers=2, say=said.append) == {}
    assert sorted(got) == ['0', '1', '2', '3'] and all(len(v) == 20 for v in got.values())
    mine = got['0'].count(killed[0])
    assert 5 <= mine < 20 and len(set(got['0'])) == 2, 'another process goes on where the first one ended'
    assert got['0'] == [killed[0]]*mine + [got['0'][-1]]*(20-mine)
    if kind == signal.SIGKILL: assert said == ['0: its worker died, and another goes on with it.']


def test_a_task_that_raises_is_reported_and_the_others_finish():
    got,said = {},[]
    failed = farm({f'task {i}': i for i in range(5)}, crooked, got.__setitem__, workers=2, say=said.append)
    assert got == {'task 0': 0, 'task 3': 3, 'task 4': 4}
    assert failed['task 1'] == 'weights of task 1: not reachable; fetch them.'
    assert failed['task 2'].startswith('IndexError in test_farm.py, line ') and failed['task 2'].endswith('list index out of range.')
    assert sorted(said) == [f'{k}: {v}' for k,v in sorted(failed.items())]


def test_a_task_that_ends_its_workers_is_given_up(monkeypatch):
    monkeypatch.setattr(module, 'LIVES', 1)
    got = {}
    failed = farm({f'task {i}': i for i in range(4)}, deadly, got.__setitem__, workers=2)
    assert got == {'task 1': 1, 'task 2': 2, 'task 3': 3}
    assert list(failed) == ['task 0'] and 'ended 2 workers' in failed['task 0']


def test_stopped_and_gone_on_with(tmp_path):
    got,tasks = {},{'first': None, 'second': str(tmp_path/'2'), 'third': str(tmp_path/'3')}
    def keep(name, result):
        got[name] = result
        wait_for((tmp_path/'2.begun').exists)
        stopped.append(time.time())
        raise KeyboardInterrupt
    stopped = []
    with pytest.raises(KeyboardInterrupt): farm(tasks, first_or_saving, keep, workers=2)
    assert time.time()-stopped[0] < 8
    assert got == {'first': 'first'} and (tmp_path/'2').read_text() == 'saved', 'what runs is told to save'
    assert not workers_alive()
    assert farm({k: 7 for k in tasks if k not in got}, draw, got.__setitem__, workers=1) == {}
    assert list(got) == list(tasks)


def test_a_task_that_does_not_listen_is_ended(monkeypatch):
    monkeypatch.setattr(module, 'GRACE', .5)
    stopped = []
    def keep(*_): stopped.append(time.time()); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): farm({'a': 0, 'b': 60}, time.sleep, keep, workers=2)
    assert time.time()-stopped[0] < 8 and not workers_alive()


def test_a_scheduler_elsewhere(monkeypatch):
    from distributed import LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address='127.0.0.1:0', silence_logs='CRITICAL') as cluster:
        got = {}
        assert farm({f'task {i}': i for i in range(6)}, draw, got.__setitem__, address=cluster.scheduler_address) == {}
        assert got == {f'task {i}': draw(i) for i in range(6)}
        assert len(cluster.scheduler_info['workers']) == 1, 'the workers of others are left alone'
        cluster.scale(0); wait_for(lambda: not cluster.scheduler_info['workers'])
        monkeypatch.setattr(module, 'PATIENCE', 1.)
        with pytest.raises(InputError, match='no worker for 1 seconds'): farm({'a': 0}, draw, got.__setitem__, address=cluster.scheduler_address)


def test_no_scheduler():
    start = time.time()
    with pytest.raises(InputError, match='tcp://127.0.0.1:9: no Dask scheduler answers'): farm({'a': 0}, draw, None, address='tcp://127.0.0.1:9')
    assert time.time()-start < 12
    with pytest.raises(InputError, match='no Dask scheduler answers'): farm({'a': 0}, draw, None, address='smoke signals')


@pytest.mark.parametrize('durations,left,workers,seconds', [([2], 3, 1, 6), ([2], 3, 3, 2), ([1, 3], 3, 2, 4), ([2], [.5, 1], 1, 3), ([2], 0, 2, 0), ([], 1, 1, float('inf'))])
def test_time_left(durations, left, workers, seconds): assert time_left(durations, left, workers) == seconds
