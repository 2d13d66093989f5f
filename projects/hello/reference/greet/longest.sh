. "${0%/*}/../lib/names.sh"
names | awk 'length($0) > length(best) { best = $0 } END { print "Hello, " best }'
