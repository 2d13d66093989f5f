[ "$(printf 'Ada\n\n' | sh greet/plain.sh)" = "Hello, Ada" ]
