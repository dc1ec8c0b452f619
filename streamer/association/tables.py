"""Tables in text files: rows with a header, and what becomes of a row that cannot be used."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from streamer.errors import DataError, NoInputError

log = structlog.get_logger()


@dataclass
class Rejections:
    """Rows of one file that cannot be used, by reason, with the first line of each."""

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    first_lines: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, line: int) -> None:
        """Count one row."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first_lines.setdefault(reason, line)

    def report(self) -> None:
        """One warning per reason."""
        for reason, count in self.counts.items():
            log.warning(
                "rows_rejected",
                path=self.path,
                reason=reason,
                rows=count,
                first_line=self.first_lines[reason],
            )

    def summary(self) -> str:
        """All reasons in one line."""
        return ", ".join(f"{count} x {reason}" for reason, count in self.counts.items())


def read_text(path: Path) -> str:
    """The text of a file. Raises NoInputError, or DataError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NoInputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8: {error}") from error


def csv_rows(
    path: Path, text: str, columns: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row below the header; missing cells are empty.

    Raises DataError if one of `columns` is not in the header.
    """
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True, restval="")
    header = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            f"{path}: the header lacks {', '.join(missing)}; it must name {', '.join(columns)}"
        )
    reader.fieldnames = header
    for row in reader:
        row.pop(None, None)
        yield reader.line_num, {name: (cell or "").strip() for name, cell in row.items()}
