/* SQLite makes a table in memory, indexes, joins, updates, sorts and deletes. */
#include <stdio.h>

#include "sqlite3.h"

static const char *statements[] = {
    "create table t(a integer primary key, b integer, c text)",
    "with recursive n(x) as (select 1 union all select x + 1 from n where x < 40000)"
    " insert into t select x, (x * 7919) % 10007, 'row ' || x from n",
    "create index i on t(b)",
    "select sum(b), count(distinct c) from t where b between 100 and 5000",
    "select count(*) from t x join t y on x.b = y.a where x.c like '%7%'",
    "update t set c = c || '-' || b where b % 3 = 0",
    "select length(group_concat(c)) from (select c from t order by b desc, a limit 20000)",
    "delete from t where b % 5 = 1",
    "select count(*), sum(length(c)) from t",
};

static int show(void *unused, int columns, char **values, char **names) {
    for (int column = 0; column < columns; column++) printf("%s ", values[column]);
    return 0;
}

int main(void) {
    sqlite3 *db;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK) return 1;
    for (size_t each = 0; each < sizeof statements / sizeof *statements; each++)
        if (sqlite3_exec(db, statements[each], show, NULL, NULL) != SQLITE_OK) return 2;
    puts("");
    return sqlite3_close(db);
}
