/* What every kernel shares: the one import, a suspending one, which keeps the hot functions on suspended stacks. It is
   called when a condition holds that the compiler cannot decide, and that never holds while a kernel is measured. */
#include <stdint.h>

__attribute__((import_module("wasi_snapshot_preview1"), import_name("sched_yield"))) int sched_yield(void);

static volatile int pausing;
#define PAUSE()            \
    do {                   \
        if (pausing)       \
            sched_yield(); \
    } while (0)
#define NOINLINE __attribute__((noinline))
int run(int turns);
