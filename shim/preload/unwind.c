/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What compiled cleanup handlers ask of a runtime (RAW_CALL in preload.h): a personality routine, and a way on after a handler.
 *
 * Both are libgcc_s's, which a program need not have: the C library loads it when a thread is cancelled. Then, or while a C++
 * exception passes that a signal handler has thrown, it is there already, and these hand over to it. An unwinder of another
 * make, linked into the program, finds no handlers here and goes on.
 */
#include <dlfcn.h>
#include <link.h>
#include <unwind.h>

#include "shim/preload/preload.h"

typedef _Unwind_Reason_Code personality(int, _Unwind_Action, _Unwind_Exception_Class, struct _Unwind_Exception *,
	struct _Unwind_Context *);

personality __gcc_personality_v0; /* known to the compiler alone */

/* A function of libgcc_s, if that is the unwinder to whom the caller of the caller belongs. */
static void *theirs(const char *name, const void *unwinder)
{
	void *library = dlopen("libgcc_s.so.1", RTLD_LAZY | RTLD_NOLOAD);
	if (!library)
		return NULL;
	void *function = dlsym(library, name);
	dlclose(library);
	Dl_info of_function, of_unwinder;
	if (!function || !dladdr(function, &of_function) || !dladdr(unwinder, &of_unwinder) ||
		of_function.dli_fbase != of_unwinder.dli_fbase)
		return NULL;
	return function;
}

_Unwind_Reason_Code __gcc_personality_v0(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
	struct _Unwind_Exception *exception, struct _Unwind_Context *context)
{
	personality *real_one = (personality *)theirs("__gcc_personality_v0", __builtin_return_address(0));
	return real_one ? real_one(version, actions, class, exception, context) : _URC_CONTINUE_UNWIND;
}

void _Unwind_Resume(struct _Unwind_Exception *exception)
{
	void *library = dlopen("libgcc_s.so.1", RTLD_LAZY | RTLD_NOLOAD);
	void (*resume)(struct _Unwind_Exception *) = library ? (void (*)(struct _Unwind_Exception *))dlsym(library, "_Unwind_Resume") : NULL;
	if (resume)
		resume(exception);
	__builtin_trap(); /* a handler has run, so it was there */
}
