[ "$(printf 'Ada\nIvan\n' | sh greet/backwards.sh)" = "Hello, Ivan
Hello, Ada" ]
