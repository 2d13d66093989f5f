[ "$(printf 'Ada\nIvan\n' | sh greet/numbered.sh)" = "1. Hello, Ada
2. Hello, Ivan" ]
