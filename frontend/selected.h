// selected.h -- the fast half of the front end that this build is made with.
//
// The slow half is linked (frontend.h); the two go together in the BUILD file.
#ifndef TCX_FRONTEND_SELECTED_H_
#define TCX_FRONTEND_SELECTED_H_

#include "frontend/frontend.h"
#include "frontend/perthread_fast.h"

#endif  // TCX_FRONTEND_SELECTED_H_
