"""Converts what a function returned to scores. For reward files of dag-train and dag-reward, this code stands before that of worker.py."""
from collections.abc import Mapping, Sequence


def scores_of(answer, count, names):
    """Returns scores as float32 [count, objectives], NaN where there is none.

    Raises ValueError, with one line, for anything but a number for each image and objective.
    """
    import numpy  # here, since worker.py takes the current folder from sys.path first

    names = list(names)
    if len(names) > 1 and hasattr(answer, "columns"):  # a table of pandas or polars
        answer = {name: answer[name] for name in answer.columns}
    if not isinstance(answer, Mapping):
        return _shaped(_numbers(answer), (count, len(names)))
    if set(answer) != set(names):
        raise ValueError(f"it returned a dict with the keys {[*answer]}; the objectives are {names}")
    return numpy.hstack([_shaped(_numbers(answer[name]), (count, 1)) for name in names])


def _shaped(values, shape):
    if values.shape != shape and (shape[1] > 1 or values.shape != shape[:1]):
        raise ValueError(f"it returned an array of shape {values.shape} for {shape[0]} images; it must be {shape}")
    return values.reshape(shape)


def _numbers(answer, entry=False):
    """Returns a new float32 array of numbers in any form that has an order; `entry` says that they are part of a list."""
    import numpy

    kind = type(answer).__name__
    if hasattr(answer, "detach"):  # a tensor of torch, on any device, of any precision
        if getattr(answer, "is_complex", bool)():
            raise ValueError("it returned complex numbers")
        answer = answer.detach().float().cpu().numpy()
    if isinstance(answer, tuple) and not entry and any(map(_has_parts, answer)) and not all(isinstance(row, (list, tuple)) for row in answer):
        raise ValueError(f"it returned a tuple of {', '.join(type(part).__name__ for part in answer)}; return the scores alone")
    if isinstance(answer, Sequence) and not isinstance(answer, (str, bytes)):
        rows = [_numbers(numpy.nan if row is None else row, entry=True) for row in answer]
        if len({row.shape for row in rows}) > 1:
            raise ValueError(f"it returned a {kind} whose entries are of different shapes")
        return numpy.array(rows, numpy.float32)
    if hasattr(answer, "__array__"):
        array = answer if isinstance(answer, numpy.ma.MaskedArray) else numpy.asarray(answer)
        if array.dtype.kind in "cmM" or array.dtype.names:
            raise ValueError(f"it returned numbers of type {array.dtype}")
        if array.dtype.kind == "O":
            return _numbers(array.tolist(), entry)
        # A score that is masked is none.
        return numpy.ma.filled(array.astype(numpy.float32), numpy.nan)
    if hasattr(answer, "__float__") or entry and isinstance(answer, str):
        return numpy.array(float(answer), numpy.float32)
    found = f"{'entries' if entry else 'something'} of type {kind}"
    raise ValueError(f"it returned {found}; return a number for each image as a list, an array or a tensor")


def _has_parts(value):
    return getattr(value, "ndim", hasattr(value, "__len__") and not isinstance(value, str)) > 0
