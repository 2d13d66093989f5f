. "${0%/*}/../lib/names.sh"
names | awk '!seen[$0]++ { print "Hello, " $0 }'
