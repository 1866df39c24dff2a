"""How long work says how far it is: a share between 0 and 1, and what it does."""

from collections.abc import Callable

Report = Callable[[float, str], None]
