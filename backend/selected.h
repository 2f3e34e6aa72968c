// selected.h -- the page source that this build is made with.
//
// Implemented by the target that //bazel/config:backend picks.
#ifndef TCX_BACKEND_SELECTED_H_
#define TCX_BACKEND_SELECTED_H_

#include "backend/page_source.h"
#include "base/compiler.h"

TCX_BEGIN_DECLS

// Prepares the one instance and returns it. Called once, at start.
struct tcx_page_source *tcx_page_source_start(void);

TCX_END_DECLS

#endif  // TCX_BACKEND_SELECTED_H_
