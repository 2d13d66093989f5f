. lib/names.sh
[ "$(printf '  Ada \n\n \nGrace Hopper\n' | names)" = "Ada
Grace Hopper" ]
