. "${0%/*}/../lib/names.sh"
names | awk '{ line = "Hello,"; for (i = 1; i <= NF; i++) line = line " " substr($i, 1, 1) "."; print line }'
