. "${0%/*}/../lib/names.sh"
echo "Hello to all $(names | grep -c .) of you"
