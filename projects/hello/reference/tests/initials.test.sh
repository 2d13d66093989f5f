[ "$(printf 'Grace Hopper\n' | sh greet/initials.sh)" = "Hello, G. H." ]
