"""Pickles that run code where they are loaded without protection.

Each makes a file, the canary; :func:`programs` has many ways to call many
functions, written as the opcodes themselves, so that nothing is imported.
"""
import io
import marshal
import pickle
import zipfile


def _text(value):
    """Opcodes of a string."""
    raw = value.encode()
    return b'X' + len(raw).to_bytes(4, 'little') + raw


def _arguments(values):
    """Opcodes of a tuple; bytes are taken as opcodes."""
    return b'(' + b''.join(
        value if isinstance(value, bytes) else _plain(value)
        for value in values) + b't'


def _plain(value):
    """Opcodes of a value of numbers, strings, bytes and containers."""
    return pickle.dumps(value, 2)[2:-1]


def _global(name):
    module, _, attribute = name.rpartition('.')
    return f'c{module}\n{attribute}\n'.encode()


def calls(canary):
    """(name of a function, its arguments) that make the canary.

    Args:
        canary (str): Path of the file.
    """
    shell = f'touch {canary}'
    code = f'open({canary!r}, "w").close()'
    compiled = marshal.dumps(compile(code, 'x', 'exec'))
    inner = b'\x80\x02' + _global('os.system') + _arguments([shell]) + b'R.'
    partial = _global('functools.partial') + _arguments(
        [_global('os.system'), shell]) + b'R'
    method = _global('operator.methodcaller') + _arguments(['touch']) + b'R'
    path = _global('pathlib.PosixPath') + _arguments([canary]) + b'R'
    found = _global('importlib.import_module') + _arguments(['os']) + b'R'
    system = _global('builtins.getattr') + _arguments([found, 'system']) + b'R'
    function = _global('types.FunctionType') + _arguments([
        _global('marshal.loads') + _arguments([_plain(compiled)]) + b'R',
        _global('builtins.globals') + b')R'
    ]) + b'R'
    return [
        ('os.system', [shell]),
        ('os.popen', [shell]),
        ('os.mkdir', [canary]),
        ('os.symlink', ['x', canary]),
        ('subprocess.call', [['touch', canary]]),
        ('builtins.eval', [code]),
        ('builtins.exec', [code]),
        ('__builtin__.eval', [code]),
        ('builtins.open', [canary, 'w']),
        ('codecs.open', [canary, 'w']),
        ('shutil.copyfile', [__file__, canary]),
        ('timeit.timeit', ['pass', code]),
        ('cProfile.run', [code]),
        ('logging.FileHandler', [canary]),
        ('sqlite3.connect', [canary]),
        ('shelve.open', [canary]),
        ('pickle.loads', [_plain(inner)]),
        ('torch.save', [[1], canary]),
        ('torch.hub.load', ['.', 'x']),
        ('torch.hub.download_url_to_file', ['file://' + __file__, canary]),
        ('numpy.save', [canary, 1]),
        ('numpy.memmap', [canary, 'uint8', 'w+', 0, (1, )]),
        ('mmengine.fileio.dump', [[1], canary, 'json']),
        (partial, []),
        (method, [path]),
        (system, [shell]),
        (function, []),
    ]


def programs(canary):
    """(name, pickle without its first and last opcode) of each payload.

    Four ways to write each call: REDUCE, INST, OBJ and STACK_GLOBAL.
    """
    for name, values in calls(canary):
        arguments = _arguments(values)
        if isinstance(name, bytes):
            label = name.split(b'\n')[1].decode()
            yield f'{label} built', name + arguments + b'R'
            continue
        module, _, attribute = name.rpartition('.')
        yield f'{name} REDUCE', _global(name) + arguments + b'R'
        yield (f'{name} INST',
               arguments[:-1] + f'i{module}\n{attribute}\n'.encode())
        yield f'{name} OBJ', b'(' + _global(name) + arguments[1:-1] + b'o'
        yield f'{name} STACK_GLOBAL', _text(module) + _text(
            attribute) + b'\x93' + arguments + b'R'


def places(program, weights):
    """Pickles that hold the call in different places.

    Args:
        program (bytes): Of :func:`programs`.
        weights (bytes): Opcodes of a value, such as of a tensor.
    """
    key = _text('state_dict')
    yield 'alone', b'\x80\x02' + program + b'.'
    yield 'a weight', (b'\x80\x02}(' + key + b'}(' + _text('w') + program +
                       b'uu.')
    yield 'meta', (b'\x80\x02}(' + key + b'}(' + _text('w') + weights + b'u' +
                   _text('meta') + program + b'u.')
    yield 'popped', b'\x80\x02' + program + b'0}(' + key + b'}u.'
    yield 'a key', b'\x80\x02}(' + program + b'Nu.'
    yield 'a state', (b'\x80\x02ccollections\nOrderedDict\n)R' + program +
                      b'b.')


def with_program(archive, program):
    """A checkpoint whose ``data.pkl`` is another; its checksums are right.

    Args:
        archive (bytes): Of torch.
        program (bytes): The pickle.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        with zipfile.ZipFile(result, 'w') as new:
            for part in old.infolist():
                content = old.read(part)
                if part.filename.endswith('/data.pkl'):
                    content = program
                new.writestr(part.filename, content)
    return result.getvalue()


def legacy(program):
    """A file of before torch 1.6: four pickles, then the storages."""
    magic = pickle.dumps(0x1950a86a20f9469cfc6c, 2)
    system = dict(protocol_version=1001, little_endian=True, type_sizes={})
    return magic + pickle.dumps(1001, 2) + pickle.dumps(
        system, 2) + program + pickle.dumps([], 2)
