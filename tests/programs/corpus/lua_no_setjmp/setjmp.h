/* Lua includes it; errors trap instead. */
typedef int jmp_buf;
