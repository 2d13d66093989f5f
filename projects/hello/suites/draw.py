"""Rewrites a case of `greet` for this run: input of the same shape, with other names and the answer they ask for."""

from collections.abc import Callable
from random import Random

from verifiers.drawing import Draw, Prepared

FIRST = [
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Dorothy",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ivan",
    "Joan",
    "Katherine",
]
FAMILY = ["Hopper", "Lovelace", "Turing", "Liskov", "Shannon", "Vaughan", "Dijkstra", "Allen", "Lamarr", "Clarke"]

RULES: dict[str, Callable[[list[str]], list[str]]] = {
    "plain": lambda names: [f"Hello, {name}" for name in names],
    "loud": lambda names: [f"HELLO, {name.upper()}" for name in names],
    "backwards": lambda names: [f"Hello, {name}" for name in reversed(names)],
    "sorted": lambda names: [f"Hello, {name}" for name in sorted(names)],
    "once": lambda names: [f"Hello, {name}" for name in dict.fromkeys(names)],
    "numbered": lambda names: [f"{number}. Hello, {name}" for number, name in enumerate(names, 1)],
    "count": lambda names: [f"Hello to all {len(names)} of you"],
    "longest": lambda names: [f"Hello, {max(names, key=len)}"],
    "initials": lambda names: ["Hello, " + " ".join(f"{word[0]}." for word in name.split()) for name in names],
    "together": lambda names: ["Hello, " + ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]],
}


def example(case_text: bytes) -> tuple[str, list[str], list[str]]:
    """A case file's program, lines of input and lines of output."""
    program, _, rest = case_text.decode().partition("\n--- input\n")
    given, _, wanted = rest.partition("--- output\n")
    return program, given.split("\n")[:-1], wanted.split("\n")[:-1]


def answer(program: str, lines: list[str]) -> list[str]:
    rule = RULES[program.removeprefix("greet/").removesuffix(".sh")]
    return rule([line.strip() for line in lines if line.strip()])


def prepare(case_text: bytes, name: str, draw: Draw) -> Prepared:
    program, lines, _ = example(case_text)
    luck = Random(draw.number(0, 2**60, "names"))
    taken = {line.strip() for line in lines}
    others: dict[str, str] = {}
    drawn: list[str] = []
    for line in lines:
        if known := line.strip():
            if known not in others:
                others[known] = _another(known, luck, taken)
            drawn.append(line.replace(known, others[known]))
        else:
            drawn.append(line)
    # `count` alone could be answered from the sample: it gets names more than any sample has.
    if program == "greet/count.sh":
        drawn += luck.choices(FIRST, k=luck.randint(10, 50))
    files = {name: "\n".join([program, *drawn, ""]).encode()}
    return Prepared(files, expected_stdout="\n".join([*answer(program, drawn), ""]).encode())


def _another(known: str, luck: Random, taken: set[str]) -> str:
    """A name of as many words that nobody here has yet, with another initial, so that no answer stays what it was."""
    while True:
        words = [luck.choice(FIRST), *(luck.choice(FAMILY) for _ in known.split()[1:])]
        name = " ".join(words)
        if name not in taken and name[0] != known[0]:
            taken.add(name)
            return name
