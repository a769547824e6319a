// Regions through C, what is read from them, and their old epochs.
#include "epoch/region.h"

#include <atomic>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/c/error.h"
#include "core/c/handles.h"
#include "core/c/options.h"
#include "core/c/region.h"
#include "epoch/c.h"
#include "epoch/journal.h"

namespace epoch::c {

struct StateCopy {
  explicit StateCopy(Snapshot snapshot) : is(std::move(snapshot)) {}
  explicit StateCopy(PastEpoch past) : is(std::move(past)) {}
  std::variant<Snapshot, PastEpoch> is;
};
struct ReaderBody {
  explicit ReaderBody(HistoryReader given) : reader(std::move(given)) {}
  HistoryReader reader;
  // Read, and not handed out: there was no memory for its handle. The reader is past it.
  std::optional<PastEpoch> next;
  std::atomic<bool> inside{false};
};

}  // namespace epoch::c

struct epoch_snapshot : epoch::c::Shared<epoch::c::StateCopy, epoch::c::Kind::kSnapshot> {};
struct epoch_history : epoch::c::Shared<epoch::EpochHistory, epoch::c::Kind::kHistory> {};
struct epoch_history_reader
    : epoch::c::Shared<epoch::c::ReaderBody, epoch::c::Kind::kHistoryReader> {};
struct epoch_stragglers
    : epoch::c::Shared<std::vector<epoch::StragglerStatus>, epoch::c::Kind::kStragglers> {};

namespace epoch::c {
namespace {

constexpr const char* kRegion = "the region";
constexpr const char* kHistory = "the history";
constexpr const char* kReader = "the history's reader";
constexpr const char* kSnapshot = "the snapshot";
constexpr const char* kStragglers = "the list of stragglers";

// Runs `body` with what stands behind a shared handle.
template <typename Handle, typename Body>
epoch_code With(Handle* handle, const char* what, epoch_error** error, Body&& body) {
  return Call(error, [&]() -> absl::Status {
    const Use<Handle> use(handle);
    if (!use.ok()) return Invalid(what);
    return body(*use);
  });
}

template <typename Make>
epoch_code Opened(const char* name, const epoch_region_options* options, epoch_region** region,
                  epoch_error** error, Make&& make) {
  if (region != nullptr) *region = nullptr;
  return Call(error, [&]() -> absl::Status {
    if (region == nullptr) return Refused("the place for the region is NULL");
    if (name == nullptr) return Refused("the region's name is NULL");
    EPOCH_C_TRY(is, RegionOptionsOf(options));
    journal::Install();
    EPOCH_C_TRY(opened, make(name, *is));
    *region = OpenShared<epoch_region>(*std::move(opened));
    return absl::OkStatus();
  });
}

}  // namespace

RegionBody::RegionBody(Region opened)
    : region(std::move(opened)), incarnation(region.incarnation()) {}

}  // namespace epoch::c

using epoch::Region;
using epoch::c::Call;
using epoch::c::OpenShared;
using epoch::c::Refused;
using epoch::c::Use;
using epoch::c::WriteInfo;

epoch_code epoch_region_create(const char* name, const epoch_region_options* options,
                               epoch_region** region, epoch_error** error) {
  return epoch::c::Opened(name, options, region, error,
                          [](auto&... with) { return Region::Create(with...); });
}
epoch_code epoch_region_open(const char* name, const epoch_region_options* options,
                             epoch_region** region, epoch_error** error) {
  return epoch::c::Opened(name, options, region, error,
                          [](auto&... with) { return Region::Open(with...); });
}
epoch_code epoch_region_open_or_create(const char* name, const epoch_region_options* options,
                                       epoch_region** region, epoch_error** error) {
  return epoch::c::Opened(name, options, region, error,
                          [](auto&... with) { return Region::OpenOrCreate(with...); });
}
epoch_code epoch_region_restore(const char* name, const epoch_region_options* options,
                                epoch_region** region, epoch_error** error) {
  return epoch::c::Opened(name, options, region, error,
                          [](auto&... with) { return Region::Restore(with...); });
}
void epoch_region_free(epoch_region* region) { epoch::c::FreeShared(region); }

epoch_code epoch_region_unlink(const char* name, epoch_error** error) {
  return Call(error, [&] {
    return name == nullptr ? Refused("the region's name is NULL") : Region::Unlink(name);
  });
}

epoch_code epoch_region_get_info(epoch_region* region, epoch_region_info* info,
                                 epoch_error** error) {
  return epoch::c::With(region, epoch::c::kRegion, error, [&](const epoch::c::RegionBody& body) {
    const Region& is = body.region;
    return WriteInfo(info, {.struct_size = 0,
                            .state_bytes = is.state_bytes(),
                            .path = is.path().c_str(),
                            .journal = is.journal().c_str(),
                            .incarnation = body.incarnation.c_str(),
                            .durable = is.durable() ? 1u : 0u,
                            .journal_in_memory = is.journal_in_memory() ? 1u : 0u});
  });
}

epoch_code epoch_region_epoch(epoch_region* region, uint64_t* epoch, epoch_error** error) {
  return epoch::c::With(region, epoch::c::kRegion, error, [&](const epoch::c::RegionBody& body) {
    if (epoch == nullptr) return Refused("the place for the epoch is NULL");
    *epoch = body.region.epoch();
    return absl::OkStatus();
  });
}

epoch_code epoch_region_orphaned(epoch_region* region, int* orphaned, epoch_error** error) {
  return epoch::c::With(region, epoch::c::kRegion, error, [&](const epoch::c::RegionBody& body) {
    if (orphaned == nullptr) return Refused("the place for the answer is NULL");
    *orphaned = body.region.orphaned() ? 1 : 0;
    return absl::OkStatus();
  });
}

epoch_code epoch_region_reap(epoch_region* region, uint32_t* reaped, epoch_error** error) {
  return epoch::c::With(region, epoch::c::kRegion, error,
                        [&](const epoch::c::RegionBody& body) -> absl::Status {
                          EPOCH_C_TRY(count, body.region.Reap());
                          if (reaped != nullptr) *reaped = *count;
                          return absl::OkStatus();
                        });
}

epoch_code epoch_region_expel(epoch_region* region, uint32_t slot, epoch_error** error) {
  return epoch::c::With(region, epoch::c::kRegion, error,
                        [&](const epoch::c::RegionBody& body) { return body.region.Expel(slot); });
}

// --- copies of states
// ------------------------------------------------------------------------------

epoch_code epoch_region_read(epoch_region* region, epoch_snapshot** snapshot, epoch_error** error) {
  if (snapshot != nullptr) *snapshot = nullptr;
  return epoch::c::With(region, epoch::c::kRegion, error,
                        [&](const epoch::c::RegionBody& body) -> absl::Status {
                          if (snapshot == nullptr) return Refused("the place for it is NULL");
                          EPOCH_C_TRY(read, body.region.Read());
                          *snapshot = OpenShared<epoch_snapshot>(*std::move(read));
                          return absl::OkStatus();
                        });
}

epoch_code epoch_snapshot_get_info(epoch_snapshot* snapshot, epoch_snapshot_info* info,
                                   epoch_error** error) {
  return epoch::c::With(snapshot, epoch::c::kSnapshot, error, [&](const epoch::c::StateCopy& body) {
    epoch_snapshot_info is{};
    std::visit(
        [&](const auto& state) {
          is.epoch = state.epoch;
          is.token = state.token;
          is.data = state.state.data();
          is.size = state.state.size();
        },
        body.is);
    if (const auto* past = std::get_if<epoch::PastEpoch>(&body.is)) {
      is.digest = past->digest;
      is.chain = past->chain;
      is.ballot = past->ballot;
      is.segment = past->segment;
      is.block = past->block;
      is.forced = past->forced ? 1u : 0u;
      if (past->proposer.has_value()) {
        is.has_proposer = 1;
        is.proposer_slot = past->proposer->slot;
        is.proposer_generation = past->proposer->generation;
      }
    }
    return WriteInfo(info, is);
  });
}
void epoch_snapshot_free(epoch_snapshot* snapshot) { epoch::c::FreeShared(snapshot); }

// --- history
// ---------------------------------------------------------------------------------------

epoch_code epoch_region_history(epoch_region* region, epoch_history** history,
                                epoch_error** error) {
  if (history != nullptr) *history = nullptr;
  return epoch::c::With(region, epoch::c::kRegion, error,
                        [&](const epoch::c::RegionBody& body) -> absl::Status {
                          if (history == nullptr) return Refused("the place for it is NULL");
                          EPOCH_C_TRY(opened, body.region.History());
                          *history = OpenShared<epoch_history>(*std::move(opened));
                          return absl::OkStatus();
                        });
}
void epoch_history_free(epoch_history* history) { epoch::c::FreeShared(history); }

epoch_code epoch_history_oldest(epoch_history* history, uint64_t* epoch, epoch_error** error) {
  return epoch::c::With(history, epoch::c::kHistory, error,
                        [&](const epoch::EpochHistory& body) -> absl::Status {
                          if (epoch == nullptr) return Refused("the place for the epoch is NULL");
                          EPOCH_C_TRY(oldest, body.Oldest());
                          *epoch = *oldest;
                          return absl::OkStatus();
                        });
}

epoch_code epoch_history_at(epoch_history* history, uint64_t epoch, epoch_snapshot** snapshot,
                            epoch_error** error) {
  if (snapshot != nullptr) *snapshot = nullptr;
  return epoch::c::With(history, epoch::c::kHistory, error,
                        [&](const epoch::EpochHistory& body) -> absl::Status {
                          if (snapshot == nullptr) return Refused("the place for it is NULL");
                          EPOCH_C_TRY(past, body.At(epoch));
                          *snapshot = OpenShared<epoch_snapshot>(*std::move(past));
                          return absl::OkStatus();
                        });
}

epoch_code epoch_history_read(epoch_history* history, uint64_t from, uint64_t to,
                              epoch_history_reader** reader, epoch_error** error) {
  if (reader != nullptr) *reader = nullptr;
  return epoch::c::With(history, epoch::c::kHistory, error,
                        [&](const epoch::EpochHistory& body) -> absl::Status {
                          if (reader == nullptr) return Refused("the place for it is NULL");
                          EPOCH_C_TRY(made, body.Read(from, to == 0 ? epoch::kMaxEpoch : to));
                          *reader = OpenShared<epoch_history_reader>(*std::move(made));
                          return absl::OkStatus();
                        });
}

epoch_code epoch_history_reader_next(epoch_history_reader* reader, epoch_snapshot** snapshot,
                                     epoch_error** error) {
  if (snapshot != nullptr) *snapshot = nullptr;
  return epoch::c::With(reader, epoch::c::kReader, error,
                        [&](epoch::c::ReaderBody& body) -> absl::Status {
                          if (snapshot == nullptr) return Refused("the place for it is NULL");
                          if (body.inside.exchange(true, std::memory_order_acquire)) {
                            return epoch::c::Busy(epoch::c::kReader);
                          }
                          struct Leave {
                            std::atomic<bool>& inside;
                            ~Leave() { inside.store(false, std::memory_order_release); }
                          } leave{body.inside};
                          if (!body.next.has_value()) {
                            EPOCH_C_TRY(next, body.reader.Next());
                            body.next = *std::move(next);
                          }
                          if (body.next.has_value()) {
                            // Moved from only when all memory for it is there.
                            *snapshot = OpenShared<epoch_snapshot>(*std::move(body.next));
                            body.next.reset();
                          }
                          return absl::OkStatus();
                        });
}
void epoch_history_reader_free(epoch_history_reader* reader) { epoch::c::FreeShared(reader); }

// --- stragglers
// ------------------------------------------------------------------------------------

epoch_code epoch_region_stragglers(epoch_region* region, uint64_t epoch,
                                   epoch_stragglers** stragglers, epoch_error** error) {
  if (stragglers != nullptr) *stragglers = nullptr;
  return epoch::c::With(region, epoch::c::kRegion, error, [&](const epoch::c::RegionBody& body) {
    if (stragglers == nullptr) return Refused("the place for the list is NULL");
    *stragglers = OpenShared<epoch_stragglers>(body.region.Stragglers(epoch));
    return absl::OkStatus();
  });
}
size_t epoch_stragglers_count(epoch_stragglers* stragglers) {
  const Use use(stragglers);
  return use.ok() ? use->size() : 0;
}
epoch_code epoch_stragglers_at(epoch_stragglers* stragglers, size_t index,
                               epoch_straggler* straggler, epoch_error** error) {
  return epoch::c::With(
      stragglers, epoch::c::kStragglers, error,
      [&](const std::vector<epoch::StragglerStatus>& list) -> absl::Status {
        if (index >= list.size()) {
          return absl::OutOfRangeError(absl::StrCat("there are ", list.size(), " stragglers"));
        }
        const epoch::StragglerStatus& is = list[index];
        return WriteInfo(straggler, {.struct_size = 0,
                                     .generation = is.generation,
                                     .acknowledged = is.acknowledged.value_or(0),
                                     .pinned = is.pinned.value_or(0),
                                     .name = is.name.c_str(),
                                     .slot = is.slot,
                                     .pid = is.pid,
                                     .has_acknowledged = is.acknowledged.has_value() ? 1u : 0u,
                                     .has_pinned = is.pinned.has_value() ? 1u : 0u,
                                     .condition = static_cast<std::int32_t>(is.condition),
                                     .reserved = 0});
      });
}
void epoch_stragglers_free(epoch_stragglers* stragglers) { epoch::c::FreeShared(stragglers); }
