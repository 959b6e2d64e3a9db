"""Exceptions, which carry the library's own line."""


class DagError(RuntimeError):
    """A call failed: a reward could not score, a disk is full, a loss is not finite. The message names the culprit and the remedy."""


class InvalidError(DagError, ValueError):
    """An argument, setting, model or file is wrong: the caller has to change something."""


class OrderError(DagError):
    """Not now: another call has to come first."""


class BusyError(DagError):
    """Another thread is using the trainer, or the call came from a reward or a callback of its own."""


class Cancelled(DagError):
    """`Trainer.cancel` ended the call; calling again goes on."""


BY_STATUS = {1: InvalidError, 2: OrderError, 3: BusyError, 4: Cancelled, 5: DagError}
