"""The error tree. Each class maps to one exit code of the command line (sysexits.h if it has one).

    MsnetError            1   failure without a better class
    +-- DataError        65   the content of a file or feed is unusable
    +-- NoInputError     66   a file or folder does not exist or cannot be read
    +-- UnavailableError 69   a server (SeedLink, Redis) cannot be reached or refuses
    +-- CannotCreateError 73  an output file or folder cannot be written
    +-- StolenError      75   another association worker has taken over
    +-- AccessDeniedError 77  a login or password was refused
    +-- ConfigError      78   the configuration or the station list is wrong

Click's own usage errors exit with 2, signals with 130 and 143. A message says what failed, where,
and what to do about it; it never contains a password.
"""

from typing import ClassVar


class MsnetError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code: ClassVar[int] = 1


class DataError(MsnetError):
    """The content of a file or feed is unusable."""

    exit_code = 65


class NoInputError(MsnetError):
    """A file or folder does not exist or cannot be read."""

    exit_code = 66


class UnavailableError(MsnetError):
    """A server cannot be reached, refuses, or does not speak the expected protocol."""

    exit_code = 69


class CannotCreateError(MsnetError):
    """An output file, folder or socket cannot be created."""

    exit_code = 73


class StolenError(MsnetError):
    """Another association worker has taken over."""

    exit_code = 75


class AccessDeniedError(MsnetError):
    """A login, password or permission was refused."""

    exit_code = 77


class ConfigError(MsnetError):
    """The configuration, an option or the station list is wrong."""

    exit_code = 78
