[ "$(printf 'Ada\nIvan\nJoan\n' | sh greet/longest.sh)" = "Hello, Ivan" ]
