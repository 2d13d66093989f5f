. "${0%/*}/../lib/names.sh"
names | awk '{ print NR ". Hello, " $0 }'
