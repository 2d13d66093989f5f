[ "$(printf 'Ada\n' | sh greet/loud.sh)" = "HELLO, ADA" ]
