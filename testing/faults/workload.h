// workload.h -- a fixed mixed program: the same requests in the same order in
// each run, whatever fails. Every tier and every kind of system call has part.
#ifndef TCX_TESTING_FAULTS_WORKLOAD_H_
#define TCX_TESTING_FAULTS_WORKLOAD_H_

namespace tcx {
namespace testing {

// Ends with everything freed, all caches of other threads gone. A failed check
// ends the process.
void RunWorkload();

}  // namespace testing
}  // namespace tcx

#endif  // TCX_TESTING_FAULTS_WORKLOAD_H_
