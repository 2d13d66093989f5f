"""The run itself: a team of seats, one repository, from start to a judged, priced change on main."""

VERSION = "0.1.0"  # also in pyproject.toml
