/* Lua runs a script: calls, a sort, arithmetic, strings and patterns. Errors trap: there is no setjmp. */
#include <stdio.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static const char *script =
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\n"
    "local t = {} for i = 1, 60000 do t[i] = (i * 7919) % 10007 end table.sort(t)\n"
    "local sum = 0 for i = 1, #t do sum = sum + t[i] * i % 97 end\n"
    "local parts = {} for i = 1, 20000 do parts[#parts + 1] = string.format('%d:%s', i, tostring(i * i)) end\n"
    "local text, count = table.concat(parts, ','), 0 for word in text:gmatch('%d+:') do count = count + #word end\n"
    "local q = 0 for i = 1, 3000000 do q = (q + i * i) % 1000003 end\n"
    "return string.format('%d %d %d %d', fib(27), sum, count, q)\n";

static const luaL_Reg libraries[] = {
    {"_G", luaopen_base}, {LUA_TABLIBNAME, luaopen_table}, {LUA_STRLIBNAME, luaopen_string}, {NULL, NULL}};

int main(void) {
    lua_State *state = luaL_newstate();
    for (const luaL_Reg *each = libraries; each->func != NULL; each++) {
        luaL_requiref(state, each->name, each->func, 1);
        lua_pop(state, 1);
    }
    if (luaL_loadstring(state, script) != LUA_OK) return 1;
    lua_call(state, 0, 1);
    puts(lua_tostring(state, -1));
    lua_close(state);
    return 0;
}
