// sanitizer_options.c -- what the sanitizers do in our tests.
//
// Compiled in, so that no rule and no command line has to pass them.

const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__ubsan_default_options(void);

// Leaks are off: tcx keeps its metadata for the life of the process.
const char *__asan_default_options(void) {
  return "abort_on_error=1:detect_leaks=0:allocator_may_return_null=1";
}

// A child of fork has not joined the threads of its parent.
const char *__tsan_default_options(void) {
  return "halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0";
}

const char *__ubsan_default_options(void) {
  return "halt_on_error=1:print_stacktrace=1";
}
