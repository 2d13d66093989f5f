. "${0%/*}/../lib/names.sh"
names | LC_ALL=C sort | sed 's/^/Hello, /'
