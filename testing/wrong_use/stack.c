// stack.c -- frees a variable on the stack, a few calls deep. In C, so that the
// process has no unwinder: the stack of the report comes by frame pointers.
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
#define NO_TAIL_CALL __asm__ volatile("")

// Their names are looked for in the stack.
void StackInner(void *pointer);
void StackOuter(void *pointer);
void StackReallocInner(void *pointer);

NOINLINE void StackInner(void *pointer) {
  free(pointer);
  NO_TAIL_CALL;
}

NOINLINE void StackReallocInner(void *pointer) {
  // Freed: found where realloc frees the old object.
  void *moved = realloc(pointer, 1000);
  __asm__ volatile("" : : "r"(moved));
}

NOINLINE void StackOuter(void *pointer) {
  if (pointer != NULL) {
    StackInner(pointer);
  } else {
    void *object = malloc(100);
    free(object);
    __asm__ volatile("" : "+r"(object));
    StackReallocInner(object);
  }
  NO_TAIL_CALL;
}

int main(int argc, char **argv) {
  _Alignas(16) char on_stack[16] = "";
  void *pointer = on_stack;
  if (argc > 1 && strcmp(argv[1], "realloc") == 0)
    pointer = NULL;
  __asm__ volatile("" : "+r"(pointer));
  StackOuter(pointer);
  return 0;
}
