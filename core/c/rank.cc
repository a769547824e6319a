// One rank's side of checkpoints, through C.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/c/error.h"
#include "core/c/handles.h"
#include "core/c/options.h"
#include "epoch/c.h"
#include "epoch/checkpoint.h"

struct epoch_rank final : epoch::c::Actor {
  static constexpr const char* kWhat = "the rank";
  std::optional<epoch::CheckpointRank> rank;

 protected:
  void DestroyBody() noexcept override { rank.reset(); }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_rank>().Give(this); }
};

struct epoch_step final : epoch::c::Child {
  static constexpr const char* kWhat = "the step";
  std::optional<epoch::CheckpointStep> step;

  void DestroyBody() noexcept override { step.reset(); }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_step>().Give(this); }
  void PutBack() noexcept override { epoch::c::PoolOf<epoch_step>().PutBack(this); }
};

namespace epoch::c {
namespace {

template <typename Body>
epoch_code InStep(epoch_step* step, epoch_error** error, Body&& body,
                  Outcome if_thrown = Outcome::kUnchanged) {
  return Call(
      error,
      [&]() -> absl::Status {
        const Inside inside(step, Kind::kStep, epoch_step::kWhat);
        if (!inside.ok()) return inside.status();
        return body(*step->step);
      },
      if_thrown);
}

absl::Status Named(const char* name) {
  return name == nullptr ? Refused("the shard's name is NULL") : absl::OkStatus();
}

}  // namespace
}  // namespace epoch::c

using epoch::c::Call;
using epoch::c::Inside;
using epoch::c::InStep;
using epoch::c::Kind;
using epoch::c::Refused;

epoch_code epoch_rank_join(const char* directory, const epoch_rank_options* options,
                           epoch_rank** rank, epoch_error** error) {
  if (rank != nullptr) *rank = nullptr;
  return Call(error, [&]() -> absl::Status {
    if (rank == nullptr) return Refused("the place for the rank is NULL");
    if (directory == nullptr) return Refused("the directory is NULL");
    EPOCH_C_TRY(is, epoch::c::CheckpointOptionsOf(options));
    EPOCH_C_TRY(joined, epoch::CheckpointRank::Join(directory, *is));
    epoch_rank* const cell = epoch::c::TakeCell<epoch_rank>();
    cell->AwaitEntry();
    cell->rank.emplace(*std::move(joined));
    cell->kind.store(Kind::kRank, std::memory_order_release);
    cell->Exit(epoch::c::Pace::kBrief);
    *rank = cell;
    return absl::OkStatus();
  });
}
void epoch_rank_free(epoch_rank* rank) {
  if (rank != nullptr) rank->Free(Kind::kRank);
}

epoch_code epoch_rank_region_path(epoch_rank* rank, const char** path, epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    const Inside inside(rank, Kind::kRank, epoch_rank::kWhat);
    if (!inside.ok()) return inside.status();
    if (path == nullptr) return Refused("the place for the path is NULL");
    *path = rank->rank->region_path().c_str();
    return absl::OkStatus();
  });
}

epoch_code epoch_rank_begin(epoch_rank* rank, uint64_t step, const epoch_wait_options* wait,
                            epoch_step** attempt, epoch_error** error) {
  if (attempt != nullptr) *attempt = nullptr;
  return Call(error, [&]() -> absl::Status {
    const Inside inside(rank, Kind::kRank, epoch_rank::kWhat);
    if (!inside.ok()) return inside.status();
    if (attempt == nullptr) return Refused("the place for the step is NULL");
    EPOCH_C_TRY(is, epoch::c::WaitOf(wait, epoch::kRankTimeout));
    epoch::c::NewChild<epoch_step> made;
    EPOCH_C_TRY(begun, rank->rank->Begin(step, *is));
    made->step.emplace(*std::move(begun));
    *attempt = made.Open(*rank, Kind::kStep);
    return absl::OkStatus();
  });
}

void epoch_step_free(epoch_step* step) {
  if (step != nullptr) step->Free(Kind::kStep);
}

epoch_code epoch_step_directory(epoch_step* step, const char** directory, epoch_error** error) {
  return InStep(step, error, [&](const epoch::CheckpointStep& is) {
    if (directory == nullptr) return Refused("the place for the directory is NULL");
    *directory = is.directory().c_str();
    return absl::OkStatus();
  });
}
epoch_code epoch_step_path(epoch_step* step, const char* name, char** path, epoch_error** error) {
  if (path != nullptr) *path = nullptr;
  return InStep(step, error, [&](const epoch::CheckpointStep& is) {
    if (absl::Status s = epoch::c::Named(name); !s.ok()) return s;
    if (path == nullptr) return Refused("the place for the path is NULL");
    *path = epoch::c::GivenAway(is.PathOf(name));
    return absl::OkStatus();
  });
}
epoch_code epoch_step_ready(epoch_step* step, const char* name, epoch_error** error) {
  return InStep(step, error, [&](epoch::CheckpointStep& is) {
    if (absl::Status s = epoch::c::Named(name); !s.ok()) return s;
    return is.Ready(name);
  });
}
epoch_code epoch_step_ready_all(epoch_step* step, epoch_error** error) {
  return InStep(step, error, [](epoch::CheckpointStep& is) { return is.ReadyAll(); });
}
epoch_code epoch_step_set_metadata(epoch_step* step, const void* data, size_t size,
                                   epoch_error** error) {
  return InStep(step, error, [&](epoch::CheckpointStep& is) -> absl::Status {
    EPOCH_C_TRY(bytes, epoch::c::BytesOf(data, size));
    is.SetMetadata(bytes->empty() ? std::string()
                                  : std::string(static_cast<const char*>(data), size));
    return absl::OkStatus();
  });
}
epoch_code epoch_step_commit(epoch_step* step, const epoch_wait_options* wait, uint64_t* epoch,
                             epoch_error** error) {
  return InStep(
      step, error,
      [&](epoch::CheckpointStep& is) -> absl::Status {
        EPOCH_C_TRY(with, epoch::c::WaitOf(wait, epoch::kRankTimeout));
        EPOCH_C_TRY(made, is.Commit(*with));
        if (epoch != nullptr) *epoch = *made;
        return absl::OkStatus();
      },
      epoch::Outcome::kUnknown);
}
