# The tag that LLVM's setjmp throws; wasi-libc as ziglang ships it does not define it.
	.globl	__c_longjmp
	.tagtype	__c_longjmp i32
__c_longjmp:
