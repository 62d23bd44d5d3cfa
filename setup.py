"Packaging: everything comes from settings.ini, the pins from constraints.txt"
from configparser import ConfigParser
from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], license='Apache-2.0',
    packages=find_packages(include=['facestudy', 'facestudy.*']), python_requires='>='+cfg['min_python'],
    install_requires=cfg['requirements'].split() + cfg['media_requirements'].split(),
    extras_require={k: cfg[f'{k}_requirements'].split() for k in ('dev', 'dlib', 'onnx')},
    entry_points={'console_scripts': ['facestudy=facestudy.cli:main'], 'nbdev': ['facestudy=facestudy._modidx:d']},
)
