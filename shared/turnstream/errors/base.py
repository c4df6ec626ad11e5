"""The root of the tree of errors, which can be pickled and copied."""


class TurnstreamError(Exception):
    """The root of every error of this library.

    Pickled or copied, it keeps its class, text, fields and notes, and a cause that is an error of this library, too;
    other causes may not be picklable, and would break a process pool.
    """

    def __reduce__(self) -> tuple[object, ...]:
        """Say how to make it again: not by its constructor, whose arguments are not kept."""
        cause = self.__cause__ if isinstance(self.__cause__, TurnstreamError) else None
        return _made_again, (type(self), self.args, dict(vars(self)), cause)


def _made_again(
    kind: type[TurnstreamError], arguments: tuple[object, ...], fields: dict[str, object], cause: TurnstreamError | None
) -> TurnstreamError:
    """Make an error that was pickled or copied."""
    error = kind.__new__(kind, *arguments)
    vars(error).update(fields)
    if cause is not None:
        error.__cause__ = cause
    return error
