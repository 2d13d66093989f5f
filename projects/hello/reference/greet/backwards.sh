. "${0%/*}/../lib/names.sh"
names | sed -n -e '1!G' -e 'h' -e '$p' | sed 's/^/Hello, /'
