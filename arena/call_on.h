/* SPDX-License-Identifier: BSD-2-Clause */
/* A function call on another stack. */
#ifndef ARENA_CALL_ON_H
#define ARENA_CALL_ON_H

/* Calls run(data) on the stack that ends at `top`, which is aligned to 64 bytes. Sanitizers, which know each thread's stack, and machines that we do
 * not know stay on the caller's. */
static inline void arena_call_on(void *top, void (*run)(void *data), void *data)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)top;
	run(data);
#elif defined(__x86_64__)
	__asm__ volatile("movq %%rsp, %%rbx\n\t"
			 "movq %[top], %%rsp\n\t"
			 "callq *%[run]\n\t"
			 "movq %%rbx, %%rsp"
			 : "+D"(data), [top] "+r"(top), [run] "+r"(run)
			 :
			 : "rbx", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "st", "cc", "memory");
#elif defined(__aarch64__)
	register void *first __asm__("x0") = data;
	__asm__ volatile("mov x19, sp\n\t"
			 "mov sp, %[top]\n\t"
			 "blr %[run]\n\t"
			 "mov sp, x19"
			 : "+r"(first), [top] "+r"(top), [run] "+r"(run)
			 :
			 : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18",
			 "x19", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
			 "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
#else
	(void)top;
	run(data);
#endif
}

#endif
