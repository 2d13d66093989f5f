[ "$(printf 'Ada\nIvan\nAda\n' | sh greet/once.sh)" = "Hello, Ada
Hello, Ivan" ]
