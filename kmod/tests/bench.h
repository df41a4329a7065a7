/* SPDX-License-Identifier: GPL-2.0-only */
/* bench.h - the names of five hundred functions: bench_1000() to bench_1499() */
#ifndef _BENCH_H
#define _BENCH_H

#define BENCH_TEN(f, p)							\
	f(p##0) f(p##1) f(p##2) f(p##3) f(p##4)				\
	f(p##5) f(p##6) f(p##7) f(p##8) f(p##9)

#define BENCH_HUNDRED(f, p)						\
	BENCH_TEN(f, p##0) BENCH_TEN(f, p##1) BENCH_TEN(f, p##2)	\
	BENCH_TEN(f, p##3) BENCH_TEN(f, p##4) BENCH_TEN(f, p##5)	\
	BENCH_TEN(f, p##6) BENCH_TEN(f, p##7) BENCH_TEN(f, p##8)	\
	BENCH_TEN(f, p##9)

#define BENCH_FUNCTIONS(f)						\
	BENCH_HUNDRED(f, 10) BENCH_HUNDRED(f, 11) BENCH_HUNDRED(f, 12)	\
	BENCH_HUNDRED(f, 13) BENCH_HUNDRED(f, 14)

#define BENCH_FIRST	1000
#define BENCH_COUNT	500
#define BENCH_NAME	12

#endif /* _BENCH_H */
