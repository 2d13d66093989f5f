. "${0%/*}/../lib/names.sh"
names | awk '{ name[NR] = $0 }
END {
    line = "Hello, " name[1]
    for (i = 2; i <= NR; i++) line = line (i < NR ? ", " : " and ") name[i]
    print line
}'
