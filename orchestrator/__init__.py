"""The run itself: a team of seats, one repository, from start to a judged, priced change on main."""
