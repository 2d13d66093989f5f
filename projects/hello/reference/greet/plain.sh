. "${0%/*}/../lib/names.sh"
names | sed 's/^/Hello, /'
