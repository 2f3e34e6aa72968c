// filler_testing.cc -- the model of the filler. See filler_testing.h.
#include "backend/hpaa/filler_testing.h"

#include <algorithm>
#include <tuple>

#include "backend/metadata.h"
#include "base/check.h"

namespace tcx {
namespace testing {

FillerModel::FillerModel(unsigned huge_max)
    : filler_(NewFiller()), huge_max_(huge_max) {
  // On both sides of a leaf's end.
  TCX_CHECK(tcx_filler_reserve(filler_.get(), {kFirstHuge, huge_max}));
}

FillerModel::~FillerModel() {
  while (!works_.empty())
    EndRelease(0, true, 1);
  while (!mends_.empty())
    EndMend(0, false);
  while (!runs_.empty())
    Free(0);
  Retry();
  while (BeginRelease(TCX_FILLER_RELEASE_ALL))
    EndRelease(0, true, 0xffff);
  TCX_CHECK(huges_.empty());
  Check();
  for (tcx_tracker_map_leaf *leaf : filler_->map.root) {
    if (leaf != nullptr)
      tcx_metadata_free(leaf, sizeof(*leaf));
  }
}

void FillerModel::Allocate(const tcx_page_request &request, unsigned flags) {
  Key expected = Expect(request);
  tcx_filler_grant grant;
  if (tcx_filler_allocate(filler_.get(), &request, now_, &grant)) {
    Huge &huge = At(grant.page);
    TCX_CHECK(!huge.is_pinned);
    TCX_CHECK(KeyOf(huge) == expected);
    if (request.align_pages == 1)
      CheckBestFit(huge, grant.page, request);
  } else {
    TCX_CHECK(std::get<0>(expected) == TCX_FILLER_PINNED);
    tcx_tracker *tracker = NewHuge(flags);
    if (tracker == nullptr)
      return;
    huges_[tracker->huge].is_dense = tcx_filler_is_dense(&request);
    tcx_filler_add(filler_.get(), tracker, &request, now_, &grant);
    TCX_CHECK(tcx_huge_of_page(grant.page) == tracker->huge);
  }
  TCX_CHECK(grant.page % request.align_pages == 0);
  AddRun(grant, static_cast<unsigned>(request.pages), false);
}

void FillerModel::Donate(unsigned head_pages, unsigned flags) {
  tcx_tracker *tracker = NewHuge(flags);
  if (tracker == nullptr)
    return;
  tcx_filler_grant grant;
  tcx_filler_donate(filler_.get(), tracker, head_pages, now_, &grant);
  TCX_CHECK(grant.page == tcx_page_of_huge(tracker->huge));
  AddRun(grant, head_pages, true);
  At(grant.page).head_pages = head_pages;
}

void FillerModel::Free(size_t index, bool is_moved) {
  auto it = Nth(index);
  Run run = it->second;
  runs_.erase(it);
  TakePages(run, 0);
  if (is_moved)
    MovePages(run);
  Huge &huge = At(run.page);
  huge.allocations--;
  if (run.is_head) {
    huge.was_donated = true;
    huge.head_pages = 0;
  }
  auto free_run = is_moved ? tcx_filler_free_moved : tcx_filler_free;
  tcx_tracker *empty = free_run(filler_.get(), run.page, run.pages, now_);
  TakeEmpty(huge, empty);
  SetLevel(now_);
}

void FillerModel::Resize(size_t index, unsigned pages) {
  Run &run = Nth(index)->second;
  Huge &huge = At(run.page);
  if (pages < run.pages) {
    TakePages(run, pages);
    tcx_filler_shrink(filler_.get(), run.page, run.pages, pages, now_);
  } else if (pages > run.pages) {
    bool expected = !huge.is_dense && !huge.is_pinned &&
                    run.page % kPages + pages <= kPages;
    for (unsigned i = run.pages; expected && i < pages; i++)
      expected = PageAt(run.page + i).tag == 0;
    tcx_filler_grant grant;
    bool is_done = tcx_filler_grow(filler_.get(), run.page, run.pages, pages,
                                   now_, &grant);
    TCX_CHECK(is_done == expected);
    if (!is_done)
      return;
    TCX_CHECK(grant.page == run.page + run.pages);
    GivePages(grant, pages - run.pages, run.tag);
  }
  run.pages = pages;
  if (run.is_head)
    huge.head_pages = pages;
  SetLevel(now_);
}

bool FillerModel::BeginRelease(tcx_filler_release_kind kind) {
  Work work;
  uint64_t due = tcx_filler_release_due(filler_.get(), now_);
  bool is_due = due == now_;
  if (!is_due && due != TCX_FILLER_DEMAND_NEVER) {
    TCX_CHECK(due > now_);
    TCX_CHECK(tcx_filler_release_due(filler_.get(), due) == due);
    TCX_CHECK(tcx_filler_release_due(filler_.get(), due - 1) == due);
  }
  bool is_any = kind != TCX_FILLER_RELEASE_UNNEEDED;
  if (!tcx_filler_begin_release(filler_.get(), kind, now_, &work)) {
    TCX_CHECK(is_any || !is_due);
    TCX_CHECK(Fewest(false) == nullptr ||
              (!is_any && Unneeded(false) < kPages));
    const Huge *huge = Fewest(true);
    TCX_CHECK(
        huge == nullptr || kind == TCX_FILLER_RELEASE_CHEAP ||
        (!is_any && (huge->used() > kPages / 2 || Unneeded(true) < kPages)));
    return false;
  }
  TCX_CHECK(is_any || is_due);
  Huge &huge = huges_.at(work.tracker->huge);
  TCX_CHECK(!huge.is_pinned);
  TCX_CHECK(work.is_huge == huge.is_huge);
  TCX_CHECK(work.total_pages == huge.idle() && work.total_pages > 0);
  TCX_CHECK(Bucket(huge) == Bucket(*Fewest(huge.is_huge)));
  TCX_CHECK(!huge.is_huge || Fewest(false) == nullptr || !is_any);
  TCX_CHECK(!huge.is_huge || kind != TCX_FILLER_RELEASE_CHEAP);
  if (!is_any) {
    TCX_CHECK(Unneeded(huge.is_huge) >= work.total_pages);
    TCX_CHECK(!huge.is_huge || work.total_pages >= kPages / 8);
  }
  Pin(&huge, now_);
  works_.push_back(work);
  return true;
}

void FillerModel::EndRelease(size_t index, bool can_break, unsigned succeeds) {
  Work work = works_[index];
  works_.erase(works_.begin() + static_cast<long>(index));
  Huge &huge = huges_.at(work.tracker->huge);
  bool is_broken = work.is_huge && can_break;
  uint64_t page = 0;
  uint64_t pages = 0;
  uint64_t total = 0;
  unsigned call = 0;
  for (; tcx_filler_release_next(&work, &page, &pages); total += pages) {
    bool is_released = (succeeds >> call++ % 16 & 1) != 0;
    for (uint64_t i = 0; i < pages; i++)
      TCX_CHECK(PageAt(page + i).tag == 0 && PageAt(page + i).is_backed);
    if (!is_released || (work.is_huge && !can_break))
      continue;
    tcx_filler_release_done(&work, page, pages);
    huge.is_huge = false;
    for (uint64_t i = 0; i < pages; i++)
      PageAt(page + i) = Page{0, 0, false, true};
  }
  TCX_CHECK(total == work.total_pages);
  if (is_broken) {
    huge.is_huge = false;
    huge.is_broken = true;
  }
  huge.is_pinned = false;
  huge.is_aside = huge.is_aside || work.done_pages == 0;
  TakeEmpty(huge,
            tcx_filler_end_release(filler_.get(), &work, is_broken, now_));
  SetLevel(now_);
}

void FillerModel::Retry() {
  tcx_filler_retry(filler_.get(), now_);
  for (auto &entry : huges_) {
    if (!entry.second.is_pinned)
      entry.second.is_aside = false;
  }
  SetLevel(now_);
}

bool FillerModel::BeginMend() {
  tcx_tracker *tracker = tcx_filler_begin_mend(filler_.get(), now_);
  if (tracker == nullptr) {
    for (const auto &entry : huges_) {
      const Huge &huge = entry.second;
      TCX_CHECK(huge.is_pinned || huge.is_huge ||
                huge.used() < kPages - kPages / 16);
    }
    return false;
  }
  Huge &huge = huges_.at(tracker->huge);
  TCX_CHECK(!huge.is_pinned && !huge.is_huge);
  TCX_CHECK(huge.used() >= kPages - kPages / 16);
  Pin(&huge, now_);
  mends_.push_back(tracker);
  return true;
}

void FillerModel::EndMend(size_t index, bool is_mended) {
  tcx_tracker *tracker = mends_[index];
  mends_.erase(mends_.begin() + static_cast<long>(index));
  Huge &huge = huges_.at(tracker->huge);
  if (is_mended) {
    huge.is_huge = true;
    huge.is_broken = false;
    for (Page &page : huge.pages)
      page.is_backed = true;
  }
  huge.is_pinned = false;
  TakeEmpty(huge, tcx_filler_end_mend(filler_.get(), tracker, is_mended, now_));
  SetLevel(now_);
}

void FillerModel::Check() const {
  tcx_filler_check(filler_.get());
  tcx_filler_stats stats;
  tcx_filler_read_stats(filler_.get(), &stats);
  uint64_t used = 0, idle = 0, released = 0, pinned = 0, donated = 0;
  uint64_t slack = 0, huge_trackers = 0, broken = 0;
  for (const auto &entry : huges_) {
    const Huge &huge = entry.second;
    used += huge.used();
    idle += huge.idle();
    released += huge.released();
    pinned += huge.is_pinned || huge.is_aside ? huge.idle() : 0;
    donated += huge.head_pages;
    bool is_end = huge.head_pages != 0 || huge.was_donated;
    slack += is_end ? kPages - huge.used() : 0;
    huge_trackers += huge.is_huge;
    broken += huge.is_broken;
  }
  TCX_CHECK(stats.used_pages == used && used == used_);
  TCX_CHECK(stats.free_pages == idle);
  TCX_CHECK(stats.released_pages == released);
  TCX_CHECK(stats.pinned_pages == pinned);
  TCX_CHECK(stats.donated_pages == donated);
  TCX_CHECK(stats.slack_pages == slack);
  TCX_CHECK(stats.trackers == huges_.size());
  TCX_CHECK(stats.huge_trackers == huge_trackers);
  TCX_CHECK(stats.broken_trackers == broken);
}

tcx_tracker *FillerModel::NewHuge(unsigned flags) {
  if (huges_.size() == huge_max_)
    return nullptr;
  uint64_t number = kFirstHuge;
  while (huges_.count(number) != 0)
    number++;
  TCX_CHECK(tcx_filler_tracker_of(filler_.get(), tcx_page_of_huge(number)) ==
            nullptr);
  tcx_tracker *tracker = tcx_tracker_new();
  TCX_CHECK(tracker != nullptr);
  tcx_tracker_init(tracker, number, flags);
  bool is_unbacked = (flags & TCX_TRACKER_UNBACKED) != 0;
  bool is_zero = is_unbacked || (flags & TCX_TRACKER_ZERO) != 0;
  Page page{0, is_zero ? 0 : ~uint64_t{0}, !is_unbacked, is_zero};
  huges_[number] = Huge{tracker,
                        std::vector<Page>(kPages, page),
                        0,
                        0,
                        0,
                        (flags & TCX_TRACKER_HUGE) != 0,
                        (flags & TCX_TRACKER_BROKEN) != 0,
                        false,
                        false,
                        false};
  return tracker;
}

void FillerModel::TakeEmpty(const Huge &huge, tcx_tracker *empty) {
  bool is_mixed = huge.released() != 0 && huge.released() != kPages;
  bool is_empty = huge.used() == 0 && !huge.is_pinned && !is_mixed;
  TCX_CHECK(empty == (is_empty ? huge.tracker : nullptr));
  if (!is_empty)
    return;
  TCX_CHECK(empty->released_pages == huge.released());
  TCX_CHECK(huge.is_huge == ((empty->flags & TCX_TRACKER_HUGE) != 0));
  TCX_CHECK(huge.is_broken == ((empty->flags & TCX_TRACKER_BROKEN) != 0));
  tcx_tracker_check(empty);
  uint64_t number = empty->huge;
  tcx_tracker_delete(empty);
  huges_.erase(number);
  TCX_CHECK(tcx_filler_tracker_of(filler_.get(), tcx_page_of_huge(number)) ==
            nullptr);
}

void FillerModel::GivePages(const tcx_filler_grant &grant, unsigned pages,
                            uint64_t tag) {
  unsigned released = 0;
  bool is_zero = true;
  for (unsigned i = 0; i < pages; i++) {
    Page &page = PageAt(grant.page + i);
    TCX_CHECK(page.tag == 0);
    TCX_CHECK(!page.is_known_zero || page.content == 0);
    released += page.is_backed ? 0 : 1;
    is_zero = is_zero && page.is_known_zero;
    page = Page{tag, tag, true, false};
  }
  used_ += pages;
  TCX_CHECK(grant.released_pages == released);
  TCX_CHECK(grant.is_zero == is_zero);
}

void FillerModel::TakePages(const Run &run, unsigned keep) {
  for (unsigned i = 0; i < run.pages; i++) {
    Page &page = PageAt(run.page + i);
    TCX_CHECK(page.tag == run.tag && page.content == run.tag);
    if (i >= keep)
      page.tag = 0;
  }
  used_ -= run.pages - keep;
}

void FillerModel::AddRun(const tcx_filler_grant &grant, unsigned pages,
                         bool is_head) {
  uint64_t tag = ++last_tag_;
  GivePages(grant, pages, tag);
  runs_[grant.page] = Run{grant.page, pages, tag, is_head};
  At(grant.page).allocations++;
  SetLevel(now_);
}

Key FillerModel::Expect(const tcx_page_request &request) const {
  Key best{TCX_FILLER_PINNED, 0, 0};
  bool is_dense = tcx_filler_is_dense(&request);
  for (const auto &entry : huges_) {
    const Huge &huge = entry.second;
    if (huge.is_pinned || huge.is_dense != is_dense)
      continue;
    Key key = KeyOf(huge);
    if (std::get<1>(key) >= request.pages + request.align_pages - 1)
      best = std::min(best, key);
  }
  return best;
}

void FillerModel::CheckBestFit(const Huge &huge, uint64_t page,
                               const tcx_page_request &request) const {
  unsigned first = static_cast<unsigned>(page % kPages);
  if (huge.is_dense) {
    for (unsigned i = 0; i < first; i++)
      TCX_CHECK(huge.pages[i].tag != 0);
  } else {
    unsigned pages = static_cast<unsigned>(request.pages);
    TCX_CHECK(huge.Best(pages, false).second == first);
  }
}

const Huge *FillerModel::Fewest(bool is_huge) const {
  const Huge *fewest = nullptr;
  for (const auto &entry : huges_) {
    const Huge &huge = entry.second;
    if (huge.is_pinned || huge.is_aside || huge.is_huge != is_huge ||
        huge.idle() == 0)
      continue;
    if (fewest == nullptr || huge.used() < fewest->used())
      fewest = &huge;
  }
  return fewest;
}

uint64_t FillerModel::Idle(bool is_huge) const {
  uint64_t idle = 0;
  for (const auto &entry : huges_) {
    const Huge &huge = entry.second;
    if (!huge.is_pinned && !huge.is_aside && huge.is_huge == is_huge)
      idle += huge.idle();
  }
  return idle;
}

}  // namespace testing
}  // namespace tcx
