. "${0%/*}/../lib/names.sh"
names | sed 's/^/Hello, /' | tr '[:lower:]' '[:upper:]'
