/* What the fuzzer's first objects are made of: one of each thing that the diff engine knows. */
int hidden(const char *text, ...);
int key[4];
static const int table[] = { 1, 2, 3, NUMBER };

#define BRANCH(key) ({ __label__ yes; int r = 0; \
	asm goto("1: .byte 0x0f,0x1f,0x44,0,0\n.pushsection __jump_table,\"aw\"\n" \
		 ".long 1b - ., %l[yes] - .\n.quad %c0 - .\n.popsection" : : "i" (key) : : yes); \
	if (0) { yes: r = 1; } r; })
#define WARN() asm volatile("1: ud2\n.pushsection __bug_table,\"aw\"\n.long 1b - .\n.long %c0 - .\n" \
	".word %c1, 0\n.popsection" : : "i" (__FILE__), "i" (__LINE__))

int first(int x)
{
	static int count;

	if (BRANCH(key))
		WARN();
	return hidden("first", __LINE__ + 300, __FILE__, count += x) + table[x & 3];
}

int second(int x)
{
	static int count;

	switch (x) {
	case 0: return hidden("a");
	case 1: return hidden("b");
	case 2: return hidden("c");
	case 3: return hidden("d");
	case 4: return hidden("e");
	}
	return hidden(__func__, count -= x);
}
