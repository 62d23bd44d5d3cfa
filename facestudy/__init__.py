__version__ = "0.1.0"

import importlib  # written by hand from here on: nbdev changes the line above and nothing else


def __getattr__(name):
    "`facestudy.puppet(photo)` works right after `import facestudy`: the module is read when somebody asks for it"
    if name == 'puppet': return importlib.import_module('facestudy.puppet')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
