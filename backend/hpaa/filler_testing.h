// filler_testing.h -- a model of the filler, for its tests and its fuzz target.
//
// The model knows of every page: whose it is, what it reads as, whether memory
// is behind it. Each answer of the filler is compared with what a search of all
// pages finds by the rules in filler.h: the choice of the huge page and of the
// range in it, what is said to be released or zero, what may be released when,
// which huge page is empty, all sums. Memory is simulated; so is time.
#ifndef TCX_BACKEND_HPAA_FILLER_TESTING_H_
#define TCX_BACKEND_HPAA_FILLER_TESTING_H_

#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <vector>

#include "backend/hpaa/filler.h"
#include "backend/hpaa/filler_pages_testing.h"

namespace tcx {
namespace testing {

struct FreeMemory {
  void operator()(void *memory) const {
    free(memory);
  }
};
using FillerPointer = std::unique_ptr<tcx_filler, FreeMemory>;

inline FillerPointer NewFiller() {
  return FillerPointer(
      static_cast<tcx_filler *>(calloc(1, sizeof(tcx_filler))));
}

class FillerModel {
 public:
  struct Run {
    uint64_t page;
    unsigned pages;
    uint64_t tag;
    bool is_head;
  };

  explicit FillerModel(unsigned huge_max);
  ~FillerModel();

  tcx_filler *filler() {
    return filler_.get();
  }
  size_t runs() const {
    return runs_.size();
  }
  size_t releases() const {
    return works_.size();
  }
  size_t mends() const {
    return mends_.size();
  }
  const Run &run(size_t index) {
    return Nth(index)->second;
  }
  void Pass(uint64_t ms) {
    now_ += ms;
  }

  // Adds a huge page, made of memory as `flags` say, if there is no room.
  void Allocate(const tcx_page_request &request, unsigned flags);
  void Donate(unsigned head_pages, unsigned flags);
  // is_moved: its pages were moved away.
  void Free(size_t index, bool is_moved = false);
  void Resize(size_t index, unsigned pages);

  // False: the filler offers nothing.
  bool BeginRelease(tcx_filler_release_kind kind);
  // Bit i % 16 of `succeeds`: whether the i-th call of the system does.
  void EndRelease(size_t index, bool can_break, unsigned succeeds);

  void Retry();

  // False: there is none.
  bool BeginMend();
  void EndMend(size_t index, bool is_mended);

  void Check() const;

 private:
  using Work = tcx_filler_release;
  static constexpr uint64_t kFirstHuge = 5 * TCX_TRACKER_MAP_LEAF - 3;

  // -- Huge pages ---------------------------------------------------------

  tcx_tracker *NewHuge(unsigned flags);
  void TakeEmpty(const Huge &huge, tcx_tracker *empty);

  Huge &At(uint64_t page) {
    return huges_.at(tcx_huge_of_page(page));
  }
  Page &PageAt(uint64_t page) {
    return At(page).pages[page % kPages];
  }

  // -- Runs ---------------------------------------------------------------

  std::map<uint64_t, Run>::iterator Nth(size_t index) {
    return std::next(runs_.begin(), static_cast<long>(index));
  }

  void GivePages(const tcx_filler_grant &grant, unsigned pages, uint64_t tag);

  // From the end of the run, until `keep` are left.
  void TakePages(const Run &run, unsigned keep);
  void MovePages(const Run &run) {
    At(run.page).is_huge = false;
    for (unsigned i = 0; i < run.pages; i++)
      PageAt(run.page + i) = Page{0, 0, false, true};
  }

  void AddRun(const tcx_filler_grant &grant, unsigned pages, bool is_head);

  // -- The filler's rules ---------------------------------------------------

  // Key of the huge page that the run should go to; family PINNED: none.
  Key Expect(const tcx_page_request &request) const;
  void CheckBestFit(const Huge &huge, uint64_t page,
                    const tcx_page_request &request) const;

  // One of those with the fewest used pages that have something to release.
  const Huge *Fewest(bool is_huge) const;

  // -- Demand ---------------------------------------------------------------

  uint64_t Idle(bool is_huge) const;

  void SetLevel(uint64_t now) {
    // Where nothing is left that was refused.
    for (auto &entry : huges_)
      entry.second.is_aside = entry.second.is_aside && entry.second.idle() > 0;
    demand_[0].Set(Idle(false), now);
    demand_[1].Set(Idle(true), now);
  }

  // As many as were idle long enough.
  uint64_t Unneeded(bool is_huge) const {
    return is_huge ? demand_[1].Unneeded(TCX_FILLER_BREAK_SECONDS, now_)
                   : demand_[0].Unneeded(TCX_FILLER_KEEP_SECONDS, now_);
  }

  void Pin(Huge *huge, uint64_t now) {
    if (!huge->is_aside)
      demand_[huge->is_huge ? 1 : 0].Take(huge->idle(), now);
    huge->is_pinned = true;
  }

  FillerPointer filler_;
  unsigned huge_max_;
  std::map<uint64_t, Huge> huges_;  // by number
  std::map<uint64_t, Run> runs_;    // by first page
  std::vector<Work> works_;
  std::vector<tcx_tracker *> mends_;
  uint64_t last_tag_ = 0;
  uint64_t used_ = 0;
  uint64_t now_ = 100000;
  DemandModel demand_[2];  // [1]: on huge pages
};

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_FILLER_TESTING_H_
