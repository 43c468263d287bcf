/* QuickJS runs a script: calls, closures, objects, a sort, strings and regular expressions. */
#include <stdio.h>
#include <string.h>

#include "quickjs.h"

static const char *script =
    "function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }\n"
    "const t = []; for (let i = 0; i < 30000; i++) t.push({ key: (i * 7919) % 10007, name: 'n' + i });\n"
    "t.sort((x, y) => x.key - y.key || (x.name < y.name ? -1 : 1));\n"
    "let sum = 0; for (const each of t) sum = (sum * 31 + each.key) % 1000003;\n"
    "const text = t.map((each) => each.name + ':' + each.key).join(',');\n"
    "const count = (text.match(/n\\d+7:/g) || []).length;\n"
    "const parsed = JSON.parse(JSON.stringify(t.slice(0, 5000))).length;\n"
    "let q = 0; for (let i = 0; i < 1500000; i++) q = (q + i * i) % 1000003;\n"
    "[fib(23), sum, count, parsed, q].join(' ');\n";

int main(void) {
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *context = JS_NewContext(runtime);
    JSValue value = JS_Eval(context, script, strlen(script), "script", JS_EVAL_TYPE_GLOBAL);
    const char *text = JS_ToCString(context, value);
    puts(text == NULL ? "?" : text);
    JS_FreeCString(context, text);
    JS_FreeValue(context, value);
    JS_FreeContext(context);
    JS_FreeRuntime(runtime);
    return 0;
}
