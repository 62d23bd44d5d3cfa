"`facestudy.puppet('me.jpg')` in a real JupyterLab, opened by headless Chromium"
import io
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import nbformat
import numpy as np
import psutil
import pytest
from conftest import browser_page
from PIL import Image
from skimage.data import astronaut

TOKEN = 'only-for-this-test'
PATIENCE = 180              # seconds: other work may fill the machine, and the first picture waits for Numba


@pytest.mark.parametrize('first', ['import facestudy', 'import facestudy.puppet'])
def test_module_can_be_called(first):
    "It is a function for who calls it, and a module for who imports from it"
    code = f'''{first}
from facestudy.core import InputError
try: facestudy.puppet('nowhere.jpg')
except InputError as e: print(e)
from facestudy.puppet import act, puppet
from facestudy import puppet as module
assert module is facestudy.puppet and module.act is act'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == 'nowhere.jpg: no such file; check the name.\n', done.stderr


def free_port():
    "A port that nobody uses"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_for(url, server):
    "Until the server answers"
    end = time.monotonic()+PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, 'JupyterLab ended before it answered'
        try: return urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError): time.sleep(.3)
    raise TimeoutError(f'{url} does not answer')


@contextmanager
def jupyterlab(folder):
    "The address of a JupyterLab of its own; it and its kernels end with the block, whatever happens"
    port = free_port()
    own = {f'JUPYTER_{o}_DIR': str(folder/'.jupyter'/o.lower()) for o in ('CONFIG', 'DATA', 'RUNTIME')}
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}',
               '--ServerApp.port_retries=0', f'--IdentityProvider.token={TOKEN}', f'--ServerApp.root_dir={folder}',
               '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
    with (folder/'server.log').open('w') as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ|own, stdout=log, stderr=log)
    try:
        wait_for(f'http://127.0.0.1:{port}/api/status?token={TOKEN}', server)
        yield f'http://127.0.0.1:{port}'
    finally: end(server)


def end(server):
    "End a server and all that it has started"
    if server.poll() is not None: return
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.terminate()                                                # it shuts its kernels down
    _,alive = psutil.wait_procs(family, timeout=30)
    for o in alive: o.kill()


def notebook(folder):
    "A photo, and a notebook that opens it and one that is not there"
    Image.fromarray(astronaut()).save(folder/'me.jpg', quality=95)
    cells = [nbformat.v4.new_code_cell(o) for o in
             ("import facestudy\nfacestudy.puppet('me.jpg')", "facestudy.puppet('you.jpg')")]
    kernel = {'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder/'puppet.ipynb')


def open_and_run(page, lab):
    "As a person does, once the kernel is there: before that, JupyterLab asks which one to take"
    page.goto(f'{lab}/lab/tree/puppet.ipynb?token={TOKEN}')
    page.get_by_text('| Idle').wait_for()                             # in the status bar
    page.get_by_role('menuitem', name='Run', exact=True).click()
    page.get_by_role('menuitem', name='Run All Cells', exact=True).click()


_BYTES = """async () => {
    const answer = await fetch(document.querySelector('.widget-image').src)
    return Array.from(new Uint8Array(await answer.arrayBuffer()))
}"""


def picture(page):
    "The address of the picture that is shown, and its pixels"
    image = page.locator('.widget-image')
    image.wait_for()
    return image.get_attribute('src'),np.asarray(Image.open(io.BytesIO(bytes(page.evaluate(_BYTES)))), float)


def next_picture(page, last):
    "The same, once it is another one"
    page.wait_for_function('last => document.querySelector(".widget-image").src != last', arg=last[0])
    return picture(page)


def differ(a, b):
    "How far two pictures are apart, in grey levels"
    return np.abs(a[1]-b[1]).mean()


def slider(page, label):
    "The handle of a slider"
    return page.locator('.widget-slider', has=page.get_by_text(label, exact=True)).get_by_role('slider')


def test_sliders_move_the_photo(tmp_path):
    "A slider changes the picture, a talk goes on by itself, and a missing photo is one sentence"
    notebook(tmp_path)
    with browser_page(PATIENCE) as page, jupyterlab(tmp_path) as lab:
        open_and_run(page, lab)
        first = picture(page)
        assert first[1].shape == (256, 256, 3)

        slider(page, 'yaw').focus()
        page.keyboard.press('ArrowRight')
        turned = next_picture(page, first)
        assert differ(first, turned) > .5                              # by one degree
        page.screenshot(path=tmp_path/'turned.png')

        page.get_by_role('button', name='talk').click()
        talking = next_picture(page, turned)
        later = next_picture(page, talking)
        assert min(differ(turned, later), differ(talking, later)) > 0

        error = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]')
        assert error.inner_text().strip() == 'InputError: you.jpg: no such file; check the name.'
        page.screenshot(path=tmp_path/'talking.png')
