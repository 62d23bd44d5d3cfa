"The report that takes the printed Table 1 apart: nbs/reports/table1_anatomy.ipynb"
import numpy as np
import pandas as pd

from facestudy.core import ROOT
from facestudy.pages.render import render
from facestudy.systems.registry import SYSTEMS


def made_up(systems, clips=3, frames=4):
    "Rows of a study that never took place"
    rng,rows = np.random.default_rng(0),[]
    same = {'hidden': False, 'parameters': 1, 'fps': 1., 'steps': 1, 'batch': 1, 'train_seconds': 1.}
    for s in systems:
        for i in range(clips):
            place = {'system': s, 'label': s.title(), 'run': s, 'clip': f'c{i}', 'frame': range(1, frames+1)}
            one = pd.DataFrame({**place, **same})
            rows.append(one.assign(psnr=rng.uniform(20, 32, frames), ssim=rng.uniform(.5, .95, frames)))
    return pd.concat(rows, ignore_index=True)


def test_it_renders_from_any_rows(tmp_path):
    made_up(('copy_source', 'suggested')).to_csv(tmp_path/'rows.csv', index=False)
    places = dict(rows=str(tmp_path/'rows.csv'), figures=str(tmp_path/'figures'))
    page = render(ROOT/'nbs'/'reports'/'table1_anatomy.ipynb', tmp_path/'a.ipynb', **places).read_text()
    said = 'the text contradicts the table', '6.0206', '4 different orders', 'not one comparison'
    for words in (*said, SYSTEMS['copy_source'].label): assert words in page, words
    assert page.index('not one comparison') < page.index('The table, beside ours'), 'the conclusion stands first'
    assert 'stderr' not in (tmp_path/'a.ipynb').read_text()
    assert len(list((tmp_path/'figures').glob('anatomy*.png'))) == 2
