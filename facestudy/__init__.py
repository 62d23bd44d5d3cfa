__version__ = "0.1.0"

import importlib


def __getattr__(name):
    "`facestudy.puppet(photo)` works right after `import facestudy`: the module is read when somebody asks for it"
    if name == 'puppet': return importlib.import_module('facestudy.puppet')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
