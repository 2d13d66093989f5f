[ "$(printf 'Ivan\nAda\n' | sh greet/sorted.sh)" = "Hello, Ada
Hello, Ivan" ]
