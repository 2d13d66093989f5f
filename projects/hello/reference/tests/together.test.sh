[ "$(printf 'Ada\nIvan\nJoan\n' | sh greet/together.sh)" = "Hello, Ada, Ivan and Joan" ]
