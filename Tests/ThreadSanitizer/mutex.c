// Tells Thread Sanitizer of Synchronization.Mutex. Where nobody waits, a Mutex is an atomic operation inside our own code, which the sanitizer
// sees; where somebody does, it is a call into libswiftSynchronization, which is not built with it: every contended lock looks like a race.
// Loaded before that library (LD_PRELOAD), this stands before the two calls.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#define SWIFT_METHOD __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *self

// Synchronization._MutexHandle._lockSlow(UInt32) and ._unlockSlow()
#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

// Of the sanitizer's runtime; absent in processes without it.
extern void __tsan_acquire(void *address) __attribute__((weak));
extern void __tsan_release(void *address) __attribute__((weak));

static SWIFT_METHOD void (*lock_slow_of_library)(uint32_t thread, SELF);
static SWIFT_METHOD void (*unlock_slow_of_library)(SELF);

__attribute__((constructor)) static void find_library(void) {
    *(void **)&lock_slow_of_library = dlsym(RTLD_NEXT, LOCK_SLOW);
    *(void **)&unlock_slow_of_library = dlsym(RTLD_NEXT, UNLOCK_SLOW);
}

SWIFT_METHOD void lock_slow(uint32_t thread, SELF) __asm__(LOCK_SLOW);
SWIFT_METHOD void lock_slow(uint32_t thread, SELF) {
    lock_slow_of_library(thread, self);
    if (__tsan_acquire) __tsan_acquire(self);
}

SWIFT_METHOD void unlock_slow(SELF) __asm__(UNLOCK_SLOW);
SWIFT_METHOD void unlock_slow(SELF) {
    if (__tsan_release) __tsan_release(self);
    unlock_slow_of_library(self);
}
