"Tasks spread over workers: the same results whoever does them, and nothing lost when workers, tasks or people stop"
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from distributed import LocalCluster

from facestudy.core import InputError, seed_all, write_text
from facestudy.training import farm as module
from facestudy.training.farm import farm


def draw(seed): return int(seed_all(seed).integers(10**6))

def draw_and_look(seed):
    "A number that depends on the seed, and what the worker was told"
    names = 'OMP_NUM_THREADS', 'FACESTUDY_PROGRESS', 'FACESTUDY_TEST'
    told = torch.get_num_threads(), *(os.environ[k] for k in names)
    return draw(seed),told

def crooked(seed):
    if seed == 1: raise InputError('weights of task 1: not reachable; fetch them.')
    if seed == 2: return [][seed]
    return seed

def deadly(seed):
    if seed == 0: os.kill(os.getpid(), signal.SIGKILL)
    return seed

def counting(argument, n=12):
    "Counts to `n` from its checkpoint, leaving the process of each step; pauses at 5 while a file `.hold` lies there"
    file = Path(argument)
    steps = json.loads(file.read_text()) if file.exists() else []
    while len(steps) < n:
        steps.append(os.getpid())
        write_text(file, json.dumps(steps))
        while len(steps) == 5 and file.with_suffix('.hold').exists(): time.sleep(.02)
    return steps

def workers_alive():
    "Process ids of local workers"
    return [p.pid for p in psutil.Process().children(recursive=True) if 'spawn_main' in ' '.join(p.cmdline())]

def wait_for(true, seconds=30):
    "Wait until `true()`"
    end = time.time()+seconds
    while not true():
        assert time.time() < end, 'it never came'
        time.sleep(.02)


def test_results_do_not_depend_on_the_workers(monkeypatch):
    monkeypatch.setenv('FACESTUDY_TEST', 'seen')
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    tasks,one,two = {f'task {i}': i for i in range(8)},{},{}
    assert farm(tasks, draw_and_look, one.__setitem__, workers=1) == {}
    assert farm(tasks, draw_and_look, two.__setitem__, workers=2) == {}
    expected = {name: (draw(seed), (1, '1', '0', 'seen')) for name,seed in tasks.items()}
    assert one == two == expected, 'one thread each, and the variables of the parent'
    assert list(one) == list(tasks), 'one worker does the tasks in the order given'
    assert os.environ['OMP_NUM_THREADS'] == '2' and not workers_alive()


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(module, 'local_client', None)
    assert farm({}, draw, None) == {}


@pytest.mark.parametrize('kind', [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_killed_in_mid_run_loses_nothing(tmp_path, kind):
    got,said,killed,files = {},[],[],[tmp_path/f'{i}.json' for i in range(3)]
    (tmp_path/'0.hold').touch()
    def kill():
        "End the worker of the first task when that has done five steps"
        wait_for(lambda: files[0].exists() and len(json.loads(files[0].read_text())) >= 5)
        killed.append(json.loads(files[0].read_text())[0])
        os.kill(killed[0], kind)
        wait_for(lambda: not psutil.pid_exists(killed[0]))
        (tmp_path/'0.hold').unlink()
    threading.Thread(target=kill, daemon=True).start()
    workers = 2 if kind == signal.SIGKILL else 1
    assert farm({f.stem: str(f) for f in files}, counting, got.__setitem__, workers=workers, say=said.append) == {}
    assert sorted(got) == ['0', '1', '2'] and all(len(v) == 12 for v in got.values())
    other = got['0'][-1]
    assert got['0'] == [killed[0]]*5 + [other]*7 and other != killed[0], 'another goes on where the first one ended'
    assert said == ['0: its worker died, and another goes on with it.']


def test_a_task_that_ends_its_workers_is_given_up(monkeypatch):
    monkeypatch.setitem(module.LIMITS, 'distributed.scheduler.allowed-failures', 1)
    got = {}
    failed = farm({f'task {i}': i for i in range(4)}, deadly, got.__setitem__, workers=1)
    assert got == {'task 1': 1, 'task 2': 2, 'task 3': 3}
    assert list(failed) == ['task 0'] and 'ended 2 workers' in failed['task 0']


SCRIPT = """
import json, pathlib, sys, time
from facestudy.training.farm import farm

folder = pathlib.Path(sys.argv[1])

def first_or_never(argument):
    if argument == 'first': return argument
    (folder/'begun').touch()
    while True: time.sleep(.01)

def keep(name, result): (folder/f'{name}.json').write_text(json.dumps(result))

if __name__ == '__main__':
    farm({'first': 'first', 'second': 'never', 'third': 'first'}, first_or_never, keep, workers=1)
"""

def test_stopped_in_a_terminal_and_gone_on_with(tmp_path):
    (tmp_path/'script.py').write_text(SCRIPT)
    command = [sys.executable, tmp_path/'script.py', tmp_path]
    def listen(): signal.signal(signal.SIGINT, signal.default_int_handler)   # a shell's background jobs ignore Ctrl-C
    script = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=listen)
    wait_for((tmp_path/'begun').exists, 60)  # the function of the script has reached the worker
    family,stopped = psutil.Process(script.pid).children(recursive=True),time.time()
    os.killpg(script.pid, signal.SIGINT)     # as Ctrl-C in a terminal: to every process of the group
    said = script.communicate(timeout=60)[1].decode()
    assert said.strip().endswith('KeyboardInterrupt'), said
    assert time.time()-stopped < 10, 'also when a task does not listen'
    assert family and not psutil.wait_procs(family, timeout=5)[1] and not workers_alive()
    got = {f.stem: json.loads(f.read_text()) for f in tmp_path.glob('*.json')}
    assert got == {'first': 'first'}
    assert farm({k: 7 for k in ('first', 'second', 'third') if k not in got}, draw, got.__setitem__, workers=1) == {}
    assert got == {'first': 'first', **dict.fromkeys(['second', 'third'], draw(7))}


def test_a_scheduler_elsewhere_and_tasks_that_raise(monkeypatch):
    quiet = dict(dashboard_address='127.0.0.1:0', silence_logs='CRITICAL')
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, **quiet) as cluster:
        got,said,there = {},[],cluster.scheduler_address
        failed = farm({f'task {i}': i for i in range(5)}, crooked, got.__setitem__, address=there, say=said.append)
        assert got == {'task 0': 0, 'task 3': 3, 'task 4': 4}, 'the others finish'
        assert failed['task 1'] == 'weights of task 1: not reachable; fetch them.'
        assert failed['task 2'].startswith('IndexError in test_farm.py, line ')
        assert failed['task 2'].endswith('list index out of range.')
        assert sorted(said) == [f'{k}: {v}' for k,v in sorted(failed.items())]
        assert len(cluster.scheduler_info['workers']) == 1, 'the workers of others are left alone'
        cluster.scale(0)
        wait_for(lambda: not cluster.scheduler_info['workers'])
        monkeypatch.setattr(module, 'PATIENCE', 1.)
        with pytest.raises(InputError, match='no worker for 1 seconds'): farm({'a': 0}, draw, None, address=there)
        monkeypatch.setattr(module, 'PATIENCE', 60.)
        threading.Timer(1., cluster.close).start()
        with pytest.raises(InputError, match='the Dask scheduler is gone'): farm({'a': 0}, draw, None, address=there)


def test_no_scheduler(monkeypatch):
    assert module.ANSWER < 10
    monkeypatch.setattr(module, 'ANSWER', 1.)
    for address in ('tcp://127.0.0.1:9', 'smoke signals'):
        with pytest.raises(InputError, match=f'{address}: no Dask scheduler answers'):
            farm({'a': 0}, draw, None, address=address)
