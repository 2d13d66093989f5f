# Prints the names on standard input, one a line, without blank lines and without spaces around a name.
names() {
    sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d'
}
