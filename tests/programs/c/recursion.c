/* Recursion: thousands of frames deep, mutual, tree shaped, with arrays on the shadow stack. */
#include <stdio.h>

static unsigned long depth_sum(int n, const unsigned *above) {
    unsigned here[3] = {above[1], above[2], above[0] + (unsigned)n};
    if (n == 0)
        return here[0] ^ here[1] ^ here[2];
    return depth_sum(n - 1, here) + here[1] % 7;
}
static int is_odd(int n);
static int is_even(int n) { return n == 0 ? 1 : is_odd(n - 1) ^ (n < 0); }
static int is_odd(int n) { return n == 0 ? 0 : is_even(n - 1) ^ (n < 0); }
static int ackermann(int m, int n) {
    if (m == 0)
        return n + 1;
    if (n == 0)
        return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}
static int moves;
static void hanoi(int n, char from, char to, char by) {
    if (n == 0)
        return;
    hanoi(n - 1, from, by, to);
    if (moves++ % 20 == 0)
        printf("%d: %c to %c\n", n, from, to);
    hanoi(n - 1, by, to, from);
}
static int permutations(char *word, int at) {
    int count = 0;
    if (!word[at]) {
        if (word[0] > word[1] && word[1] > word[2])
            puts(word);
        return 1;
    }
    for (int i = at; word[i]; i++) {
        char t = word[at];
        word[at] = word[i], word[i] = t;
        count += permutations(word, at + 1);
        t = word[at];
        word[at] = word[i], word[i] = t;
    }
    return count;
}

int main(void) {
    unsigned seed[3] = {1, 2, 3};
    char word[] = "abcde";
    printf("%lu\n", depth_sum(1500, seed));
    printf("%d %d\n", is_even(801), is_odd(801));
    printf("%d\n", ackermann(2, 9));
    hanoi(7, 'A', 'C', 'B');
    printf("%d moves, %d permutations\n", moves, permutations(word, 0));
    return 0;
}
