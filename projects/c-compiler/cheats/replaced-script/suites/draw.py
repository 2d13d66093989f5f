"""A cheat: every case is right with 0."""

from verifiers.drawing import Draw, Prepared


def prepare(case_text: bytes, name: str, draw: Draw) -> Prepared:
    return Prepared({name: case_text}, 0)
