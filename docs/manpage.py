"""A man page as roff: the commands of msnet-stream with their options (man(7))."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

# (`msnet-stream run`, usage, meaning, [(names, meaning) of each option])
Command = tuple[str, Sequence[str], str, Sequence[tuple[str, str]]]

FILES = {
    "/etc/msnet-stream/NAME.yaml": "Configuration of the unit msnet-stream@NAME.",
    "/var/lib/msnet-stream/NAME": "Its checkpoint and spool.",
    "~/.local/state/msnet-stream": "The same without systemd, and the embedded broker.",
}


def man_page(version: str, commands: Sequence[Command], exit_codes: Mapping[int, str]) -> str:
    """The page: the first of `commands` is the program itself."""
    program, _, meaning, _ = commands[0]
    lines = [
        f'.TH {program.upper()} 1 "" "{program} {version}" "User Commands"',
        ".SH NAME",
        f"{escaped(program)} \\- {escaped(first_sentence(meaning)).rstrip('.')}",
        ".SH SYNOPSIS",
        f".B {escaped(program)}",
        "[OPTIONS] COMMAND [ARGS]...",
        ".SH DESCRIPTION",
        *paragraphs(meaning),
        ".SH COMMANDS",
    ]
    for path, usage, told, options in commands[1:]:
        lines += [f".SS {escaped(path)} {escaped(' '.join(usage))}", *paragraphs(told)]
        lines += tagged(options)
    lines += [".SH EXIT STATUS", *tagged((str(code), told) for code, told in exit_codes.items())]
    lines += [".SH FILES", *tagged(FILES.items())]
    return "\n".join(lines) + "\n"


def first_sentence(text: str) -> str:
    """The text up to its first full stop."""
    paragraph, _, _ = text.partition("\n\n")
    sentence, _, _ = " ".join(paragraph.split()).partition(". ")
    return sentence


def paragraphs(text: str) -> Iterator[str]:
    """The text with `.PP` between its paragraphs."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield escaped(" ".join(paragraph.split()))


def tagged(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A list of terms with their meaning."""
    for term, meaning in items:
        yield from (".TP", f"\\fB{escaped(term)}\\fR", escaped(" ".join(meaning.split())))


def escaped(text: str) -> str:
    """Text that roff prints as it is: backslashes, hyphens, and what would be a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
