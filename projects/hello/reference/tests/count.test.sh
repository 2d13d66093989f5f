[ "$(printf 'Ada\nIvan\n' | sh greet/count.sh)" = "Hello to all 2 of you" ]
