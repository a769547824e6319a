#include "core/c/options.h"

namespace epoch::c {
namespace {

const char* OrEmpty(const char* text) { return text == nullptr ? "" : text; }

template <typename To>
absl::StatusOr<To> OneOf(std::int32_t value, const char* name, To zero, To one) {
  if (value == 0) return zero;
  if (value == 1) return one;
  return Refused(std::string(name) + " is " + std::to_string(value) + ", which is none of them");
}

absl::StatusOr<Straggler> StragglerOf(std::int32_t value) {
  return OneOf(value, "on_straggler", Straggler::kAbort, Straggler::kExpel);
}

}  // namespace

absl::StatusOr<absl::Duration> DurationOf(std::int64_t nanos, absl::Duration by_default) {
  if (nanos == 0) return by_default;
  if (nanos == EPOCH_FOREVER) return absl::InfiniteDuration();
  if (nanos == EPOCH_NO_WAIT) return absl::ZeroDuration();
  if (nanos < 0) return Refused("a time of " + std::to_string(nanos) + " ns");
  return absl::Nanoseconds(nanos);
}

absl::StatusOr<bool> FlagOf(std::uint32_t flag, const char* name) {
  return OneOf(flag > 1 ? 2 : static_cast<std::int32_t>(flag), name, false, true);
}

Interrupted InterruptedBy(epoch_interrupted interrupted, void* user) {
  if (interrupted == nullptr) return {};
  return [interrupted, user] { return interrupted(user) != 0; };
}

absl::StatusOr<std::span<const std::byte>> BytesOf(const void* data, std::size_t size) {
  if (data == nullptr && size != 0) {
    return Refused("NULL, and " + std::to_string(size) + " bytes of it");
  }
  return std::span(static_cast<const std::byte*>(data), size);
}

absl::StatusOr<WaitOptions> WaitOf(const epoch_wait_options* given, absl::Duration by_default) {
  EPOCH_C_TRY(options, ReadOptions(given));
  EPOCH_C_TRY(timeout, DurationOf(options->timeout_ns, by_default));
  return WaitOptions{.timeout = *timeout,
                     .interrupted = InterruptedBy(options->interrupted, options->interrupted_user)};
}

absl::StatusOr<RegionOptions> RegionOptionsOf(const epoch_region_options* given) {
  EPOCH_C_TRY(options, ReadOptions(given));
  RegionOptions is;
  if (options->state_bytes != 0) is.state_bytes = options->state_bytes;
  if (options->participants != 0) is.participants = options->participants;
  if (options->versions != 0) is.versions = options->versions;
  if (options->mode != 0) is.mode = options->mode;
  is.journal = OrEmpty(options->journal);
  if (options->history < EPOCH_HISTORY_DEFAULT || options->history > EPOCH_HISTORY_LATEST) {
    return Refused("history is " + std::to_string(options->history) + ", which is none of them");
  }
  if (options->history == EPOCH_HISTORY_LATEST) is.history = History::kLatest;
  is.segment_bytes = options->segment_bytes;
  is.retain_segments = options->retain_segments;
  is.retain_epochs = options->retain_epochs;
  EPOCH_C_TRY(restore_timeout, DurationOf(options->restore_timeout_ns, is.restore_timeout));
  is.restore_timeout = *restore_timeout;
  is.interrupted = InterruptedBy(options->interrupted, options->interrupted_user);
  EPOCH_C_TRY(ignore, FlagOf(options->ignore_block_damage, "ignore_block_damage"));
  EPOCH_C_TRY(read_only, FlagOf(options->read_only, "read_only"));
  EPOCH_C_TRY(trust, FlagOf(options->trust_other_owners, "trust_other_owners"));
  is.ignore_block_damage = *ignore;
  is.read_only = *read_only;
  is.trust_other_owners = *trust;
  return is;
}

absl::StatusOr<JoinOptions> JoinOptionsOf(const epoch_join_options* given) {
  EPOCH_C_TRY(options, ReadOptions(given));
  EPOCH_C_TRY(voter, FlagOf(options->voter, "voter"));
  EPOCH_C_TRY(by_hand, FlagOf(options->acknowledges_by_hand, "acknowledges_by_hand"));
  return JoinOptions{.name = OrEmpty(options->name),
                     .voter = *voter,
                     .acknowledges_by_hand = *by_hand,
                     .window = options->window};
}

absl::StatusOr<CommitOptions> CommitOptionsOf(const epoch_commit_options* given) {
  EPOCH_C_TRY(options, ReadOptions(given));
  CommitOptions is;
  EPOCH_C_TRY(has_expected, FlagOf(options->has_expected, "has_expected"));
  if (*has_expected) is.expected = options->expected;
  EPOCH_C_TRY(agreement,
              OneOf(options->agreement, "agreement", Agreement::kNone, Agreement::kAllVoters));
  is.agreement = *agreement;
  EPOCH_C_TRY(straggler, StragglerOf(options->on_straggler));
  is.on_straggler = *straggler;
  if (options->min_voters < EPOCH_NO_VOTERS) {
    return Refused("min_voters is " + std::to_string(options->min_voters));
  }
  if (options->min_voters != 0) {
    is.min_voters = options->min_voters == EPOCH_NO_VOTERS
                        ? 0
                        : static_cast<std::uint32_t>(options->min_voters);
  }
  EPOCH_C_TRY(fence, FlagOf(options->fence, "fence"));
  is.fence = *fence;
  EPOCH_C_TRY(timeout, DurationOf(options->timeout_ns, is.timeout));
  is.timeout = *timeout;
  is.token = options->token;
  is.interrupted = InterruptedBy(options->interrupted, options->interrupted_user);
  return is;
}

absl::StatusOr<CollectiveOptions> CollectiveOptionsOf(const epoch_collective_options* given) {
  EPOCH_C_TRY(options, ReadOptions(given));
  CollectiveOptions is;
  EPOCH_C_TRY(timeout, DurationOf(options->timeout_ns, is.timeout));
  is.timeout = *timeout;
  EPOCH_C_TRY(straggler, StragglerOf(options->on_straggler));
  is.on_straggler = *straggler;
  is.contributions = options->contributions;
  EPOCH_C_TRY(fence, FlagOf(options->fence, "fence"));
  is.fence = *fence;
  is.interrupted = InterruptedBy(options->interrupted, options->interrupted_user);
  return is;
}

absl::StatusOr<CheckpointOptions> CheckpointOptionsOf(const epoch_rank_options* given) {
  EPOCH_C_TRY(options, ReadOptions(given));
  CheckpointOptions is;
  is.rank = options->rank;
  if (options->world != 0) is.world = options->world;
  if (options->mode != 0) is.mode = options->mode;
  is.region = OrEmpty(options->region);
  EPOCH_C_TRY(take_over, FlagOf(options->take_over, "take_over"));
  is.take_over = *take_over;
  EPOCH_C_TRY(restore_timeout, DurationOf(options->restore_timeout_ns, is.restore_timeout));
  is.restore_timeout = *restore_timeout;
  is.interrupted = InterruptedBy(options->interrupted, options->interrupted_user);
  return is;
}

absl::StatusOr<PruneOptions> PruneOptionsOf(const epoch_prune_options* given) {
  EPOCH_C_TRY(options, ReadOptions(given));
  EPOCH_C_TRY(damaged, FlagOf(options->remove_damaged, "remove_damaged"));
  EPOCH_C_TRY(dry_run, FlagOf(options->dry_run, "dry_run"));
  return PruneOptions{.keep = options->keep == 0 ? 1 : options->keep,
                      .remove_damaged = *damaged,
                      .dry_run = *dry_run};
}

}  // namespace epoch::c
