// deepbind_outer.c -- a library that opens others by its own RUNPATH.
#include <dlfcn.h>

void *outer_open(const char *name, int flags);

void *outer_open(const char *name, int flags) {
  void *handle = dlopen(name, RTLD_NOW | flags);
  // Not a tail call, or the caller would be somebody else.
  __asm__ volatile("" : : : "memory");
  return handle;
}
