/* expect 15
the 5
cat 2
and 2
fish 1
cow 0
15 2 b40eb21c
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 16
struct entry { char *key; int count; struct entry *next; };
static struct entry *slots[SLOTS];

static unsigned hash(const char *s) { unsigned h = 2166136261u; while (*s) h = (h ^ (unsigned char)*s++) * 16777619u; return h; }

static struct entry *find(const char *key, int make)
{
    struct entry **at = &slots[hash(key) % SLOTS];
    for (; *at; at = &(*at)->next)
        if (!strcmp((*at)->key, key)) return *at;
    if (!make) return NULL;
    *at = calloc(1, sizeof **at);
    (*at)->key = strcpy(malloc(strlen(key) + 1), key);
    return *at;
}

int main(void)
{
    char text[] = "the cat and the dog and the bird saw the cat but not the fish";
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        find(word, 1)->count++;
    const char *asked[] = { "the", "cat", "and", "fish", "cow" };
    for (int i = 0; i < 5; i++) {
        struct entry *e = find(asked[i], 0);
        printf("%s %d\n", asked[i], e ? e->count : 0);
    }
    unsigned all = 0, longest = 0;
    for (int i = 0; i < SLOTS; i++) {
        unsigned n = 0;
        for (struct entry *e = slots[i], *next; e; e = next) { next = e->next; all += e->count; n++; free(e->key); free(e); }
        if (n > longest) longest = n;
    }
    printf("%u %u %x\n", all, longest, hash("the"));
    return all;
}
