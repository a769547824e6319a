#include "core/inspect/region_check.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "core/inspect/ring_check.h"
#include "epoch/detail/protocol/slots.h"

namespace epoch::inspect {
namespace {

using detail::CellState;
using detail::OwnedWord;
using detail::OwnerWord;
using detail::Phase;
using detail::SlotState;
using detail::SlotWord;
using detail::StateWord;

std::string HexWord(std::uint64_t word) { return absl::StrCat(absl::Hex(word, absl::kZeroPad16)); }

class Checker {
 public:
  Checker(const detail::Mapping& mapping, CheckReport& report)
      : mapping_(mapping), view_(mapping.view()), report_(report) {}

  void Run() {
    CheckWords();
    CheckCells();
    CheckChain();
    CheckSlots();
    CheckCounters();
    if (view_.durable) CheckDurability(mapping_, report_.findings);
  }

 private:
  // A published version, as read while its cell did not change hands.
  struct Version {
    std::uint32_t cell;
    std::uint64_t length_bytes;
    std::uint64_t digest;
    std::uint64_t chain;
    std::uint64_t token;
    std::uint64_t shape;
  };

  void Damage(std::string where, std::string what) {
    report_.findings.push_back({Finding::Severity::kDamage, std::move(where), std::move(what)});
  }
  void Note(std::string where, std::string what) {
    report_.findings.push_back({Finding::Severity::kNote, std::move(where), std::move(what)});
  }
  StateWord Head() const { return StateWord::Unpack(view_.control->head.Load()); }
  StateWord Tail() const { return StateWord::Unpack(view_.control->tail.Load()); }

  void CheckWords() {
    // In this order, the comparisons hold however fast the region moves on: head only grows, is
    // never beyond tail, and in a volatile region never more than one behind it.
    const StateWord earlier = Head();
    const StateWord tail = Tail();
    const StateWord head = Head();
    if (head.phase != Phase::kOpen && head.phase != Phase::kClosed &&
        head.phase != Phase::kPoisoned) {
      Damage("head", absl::StrCat("impossible phase in ", HexWord(head.Pack())));
    }
    if (tail.phase != Phase::kAccepted && tail.phase != Phase::kVoting) {
      Damage("tail", absl::StrCat("impossible phase in ", HexWord(tail.Pack())));
    }
    for (const auto& [name, word] : {std::pair{"head", head}, std::pair{"tail", tail}}) {
      if (!view_.ValidCell(word.version)) {
        Damage(name, absl::StrCat("names version ", word.version, " of ", view_.geometry.versions));
      }
    }
    if (head.epoch < earlier.epoch) {
      Damage("head", absl::StrCat("went back from epoch ", earlier.epoch, " to ", head.epoch));
    }
    if (earlier.epoch > tail.epoch) {
      Damage("head", absl::StrCat("epoch ", earlier.epoch, " is beyond tail's ", tail.epoch));
    }
    const std::uint64_t most = view_.durable ? view_.geometry.versions : 1;
    if (tail.epoch > head.epoch + most) {
      Damage("tail", absl::StrCat("epoch ", tail.epoch, " is too far beyond head's ", head.epoch));
    }
    if (head.phase == Phase::kPoisoned) {
      Note("head", "poisoned: the journal failed a write; recover the region from it");
    }
    const std::uint32_t limit = view_.control->slot_limit.Load();
    if (limit > view_.geometry.participants) {
      Damage("control", absl::StrCat("slot limit ", limit, ", but the region has ",
                                     view_.geometry.participants, " slots"));
    }
    CheckHeadCell();
    CheckTailCell();
  }

  // Its version has its epoch, and is accepted or voted on; it is not recycled while tail names it.
  void CheckTailCell() {
    for (int round = 0; round < 1000; ++round) {
      const std::uint64_t word = view_.control->tail.Load();
      const StateWord tail = StateWord::Unpack(word);
      if (!view_.ValidCell(tail.version)) return;  // reported already
      const detail::VersionCell& cell = view_.cells[tail.version];
      const CellState state = OwnerWord::Unpack(cell.owner.Load()).state;
      const Epoch epoch = cell.epoch.Load();
      if (view_.control->tail.Load() != word) continue;  // moved on meanwhile
      if (epoch != tail.epoch) {
        Damage("tail", absl::StrCat("is at epoch ", tail.epoch, ", its version ", tail.version,
                                    " says ", epoch));
      }
      if (state == CellState::kFree ||
          (state == CellState::kRetired && tail.phase == Phase::kAccepted)) {
        Damage("tail", absl::StrCat("names version ", tail.version, ", which is ",
                                    state == CellState::kFree ? "free" : "refused"));
      }
      return;
    }
  }

  void CheckHeadCell() {
    for (int round = 0; round < 1000; ++round) {
      const std::uint64_t word = view_.control->head.Load();
      const StateWord head = StateWord::Unpack(word);
      if (!view_.ValidCell(head.version)) return;  // reported already
      // Of a closed head: what it still shows, and that it names a proposal, is looked at here.
      const std::uint32_t index = detail::CommittedCell(view_, head);
      if (!view_.ValidCell(index)) {
        if (view_.control->head.Load() != word) continue;
        Damage("head", absl::StrCat("is closed for version ", head.version, ", which follows ",
                                    index, " of ", view_.geometry.versions));
        return;
      }
      const detail::VersionCell& cell = view_.cells[index];
      const CellState state = OwnerWord::Unpack(cell.owner.Load()).state;
      const Epoch epoch = cell.epoch.Load();
      const bool newest = Tail().epoch == head.epoch;
      if (view_.control->head.Load() != word) continue;  // moved on meanwhile
      // Its drafter may have died before it marked the version; then nothing follows it yet.
      if (state != CellState::kPublished && !(state == CellState::kDrafted && newest)) {
        Damage("head", absl::StrCat("names version ", index, ", which is not published"));
      }
      if (epoch != head.epoch) {
        Damage("head",
               absl::StrCat("is at epoch ", head.epoch, ", its version ", index, " says ", epoch));
      }
      // Published or not, what head names is what everybody reads.
      if (state != CellState::kPublished) CheckCommittedState(head, index);
      return;
    }
  }

  void CheckCommittedState(const StateWord& head, std::uint32_t index) {
    const detail::VersionCell& cell = view_.cells[index];
    const std::uint64_t length = cell.length_bytes.Load();
    if (length > view_.geometry.state_bytes || DigestOf(index, length) != cell.digest.Load()) {
      if (Head().Pack() == head.Pack()) {
        Damage("head", "the committed state does not match its length and digest");
      }
    }
  }

  std::uint64_t DigestOf(std::uint32_t cell, std::uint64_t length_bytes) {
    ++report_.states;
    report_.bytes += length_bytes;
    return detail::Digest(std::span(view_.PayloadOf(cell), length_bytes));
  }

  void CheckCells() {
    for (std::uint32_t i = 0; i < view_.geometry.versions; ++i) {
      const OwnerWord owner = OwnerWord::Unpack(view_.cells[i].owner.Load());
      const std::string where = absl::StrCat("version ", i);
      switch (owner.state) {
        case CellState::kFree:
          break;
        case CellState::kDrafted:
          CheckDraft(i, owner, where);
          break;
        case CellState::kRetired:
          CheckRetired(i, owner, where);
          break;
        case CellState::kPublished:
          CheckPublished(i, owner, where);
          break;
        default:
          Damage(where, absl::StrCat("impossible state in owner word ", HexWord(owner.Pack())));
      }
    }
  }

  void CheckDraft(std::uint32_t index, const OwnerWord& owner, const std::string& where) {
    if (owner.slot >= view_.geometry.participants) {
      Damage(where,
             absl::StrCat("is drafted by slot ", owner.slot, " of ", view_.geometry.participants));
      return;
    }
    // A slot is freed only after its drafts, and this draft was there all the time.
    const SlotWord slot = SlotWord::Unpack(view_.slots[owner.slot].state.Load());
    const bool held = view_.cells[index].owner.Load() == owner.Pack();
    if (slot.state == SlotState::kFree && held && Tail().version != index) {
      Damage(where, absl::StrCat("is drafted by slot ", owner.slot, ", which is free"));
    }
  }

  // A proposal that was refused. It is nobody's: its proposer may have left since, and whoever
  // needs a cell takes it.
  void CheckRetired(std::uint32_t index, const OwnerWord& owner, const std::string& where) {
    const auto outcome = detail::OutcomeWord::Unpack(view_.cells[index].outcome.Load());
    if (view_.cells[index].owner.Load() != owner.Pack()) return;  // recycled meanwhile
    // Decided before it was marked.
    if (outcome.decision != detail::Decision::kAborted) {
      Damage(where, "is marked as a refused proposal, but its outcome does not say so");
    }
  }

  void CheckPublished(std::uint32_t index, const OwnerWord& owner, const std::string& where) {
    const detail::VersionCell& cell = view_.cells[index];
    const Epoch epoch = cell.epoch.Load();
    const Version version{index,
                          cell.length_bytes.Load(),
                          cell.digest.Load(),
                          cell.chain.Load(),
                          cell.token.Load(),
                          cell.shape.Load()};
    const bool fits = version.length_bytes <= view_.geometry.state_bytes;
    const bool matches = fits && DigestOf(index, version.length_bytes) == version.digest;
    const Epoch tail = Tail().epoch;                // after the epoch was read: it cannot be newer
    if (cell.owner.Load() != owner.Pack()) return;  // recycled meanwhile: nothing is known of it
    if (!fits) {
      Damage(where, absl::StrCat("claims ", version.length_bytes, " bytes, a state has at most ",
                                 view_.geometry.state_bytes));
    } else if (!matches) {
      Damage(where, absl::StrCat("the state of epoch ", epoch, " does not match its digest"));
    }
    if (epoch > tail) {
      Damage(where, absl::StrCat("is published as epoch ", epoch, ", beyond tail's ", tail));
    }
    if (detail::KindOf(version.shape) != detail::VersionKind::kFullState) {
      Damage(where, absl::StrCat("is of unknown kind ", version.shape >> 56));
    }
    if (!view_.ValidCell(detail::PreviousCellOf(version.shape))) {
      Damage(where, absl::StrCat("follows version ", detail::PreviousCellOf(version.shape), " of ",
                                 view_.geometry.versions));
    }
    const auto [other, fresh] = versions_.emplace(epoch, version);
    if (!fresh) {
      Damage(where, absl::StrCat("is epoch ", epoch, ", and so is version ", other->second.cell));
    }
  }

  // Each state is tied to its predecessor, where that is still there.
  void CheckChain() {
    for (const auto& [epoch, version] : versions_) {
      const auto previous = versions_.find(epoch - 1);
      if (epoch == 0 || previous == versions_.end()) continue;
      const detail::ChainLink link{.previous_chain = previous->second.chain,
                                   .epoch = epoch,
                                   .length_bytes = version.length_bytes,
                                   .digest = version.digest,
                                   .token = version.token,
                                   .kind = version.shape >> 56};
      if (detail::ChainDigest(link) != version.chain) {
        Damage(absl::StrCat("version ", version.cell),
               absl::StrCat("epoch ", epoch, " is not chained to epoch ", epoch - 1));
      }
    }
  }

  void CheckSlots() {
    detail::HeldBytes held(mapping_.probe_fd());
    for (std::uint32_t i = 0; i < view_.geometry.participants; ++i) {
      const detail::Slot& slot = view_.slots[i];
      const std::uint64_t word = slot.state.Load();
      const SlotWord state = SlotWord::Unpack(word);
      const std::string where = absl::StrCat("slot ", i);
      if (state.state != SlotState::kFree && state.state != SlotState::kJoining &&
          state.state != SlotState::kActive && state.state != SlotState::kExpelled) {
        Damage(where, absl::StrCat("impossible state in ", HexWord(word)));
        continue;
      }
      if (state.state == SlotState::kFree) {
        bool holds = false;
        for (const auto* owned : {&slot.pin, &slot.own, &slot.help, &slot.look, &slot.listen}) {
          holds = holds || OwnedWord::Unpack(owned->Load()).number != detail::kNone;
        }
        if (holds && slot.state.Load() == word) Damage(where, "is free, but holds a pin or guard");
        continue;
      }
      if (i >= view_.control->slot_limit.Load()) {
        Damage(where, "is taken, but lies beyond the slot limit: scans miss it");
      }
      // D: the state was read before the byte is tested.
      if (!held.Alive(i)) {
        Note(where, absl::StrCat("its participant \"", detail::ReadName(slot),
                                 "\" is dead and not expelled yet (epochctl reap)"));
      }
      if (state.state == SlotState::kActive) CheckActive(slot, word, where);
    }
  }

  // Ballots and collective rounds are counted, and never twice: what carries a number got it from
  // the counter, so that is read last.
  void CheckCounters() {
    std::uint64_t ballot = 0, round = 0;
    std::string has_ballot, has_round;
    const auto note = [](std::uint64_t number, const std::string& where, std::uint64_t& most,
                         std::string& has) {
      if (number <= most) return;
      most = number;
      has = where;
    };
    for (std::uint32_t i = 0; i < view_.geometry.versions; ++i) {
      const std::string where = absl::StrCat("version ", i);
      note(view_.cells[i].ballot.Load(), where, ballot, has_ballot);
      note(view_.cells[i].round.Load(), where, round, has_round);
    }
    for (std::uint32_t i = 0; i < view_.geometry.participants; ++i) {
      const std::string where = absl::StrCat("slot ", i);
      note(detail::VoteWord::Unpack(view_.slots[i].vote.Load()).ballot, where, ballot, has_ballot);
      const std::uint64_t offer = OwnedWord::Unpack(view_.slots[i].offer.Load()).number;
      if (offer != detail::kNone) note(offer, where, round, has_round);
    }
    const std::uint64_t last_ballot = view_.control->ballot.Load();
    const std::uint64_t last_round = detail::GatherWord::Unpack(view_.control->gather.Load()).round;
    if (ballot > last_ballot) {
      Damage(has_ballot,
             absl::StrCat("has ballot ", ballot, "; the last one given out is ", last_ballot));
    }
    if (round > last_round) {
      Damage(has_round,
             absl::StrCat("has collective round ", round, "; the last one is ", last_round));
    }
  }

  void CheckActive(const detail::Slot& slot, std::uint64_t word, const std::string& where) {
    const auto generation = static_cast<std::uint16_t>(SlotWord::Unpack(word).generation);
    const auto check = [&](const char* name, const seam::Atomic<std::uint64_t>& owned, bool guard) {
      OwnedWord value = OwnedWord::Unpack(owned.Load());
      if (value.number != detail::kNone && !guard) value.number &= ~detail::kPinsAllFrom;
      // What a participant pins or acknowledges was head, or guards exists, before it wrote that.
      const bool possible = value.number == detail::kNone ||
                            (guard ? view_.ValidCell(value.number) : value.number <= Head().epoch);
      if (slot.state.Load() != word) return;
      if (value.generation != generation) {
        Damage(where, absl::StrCat(name, " is of generation ", value.generation, ", the slot of ",
                                   generation));
      } else if (!possible) {
        Damage(where, absl::StrCat(name, " names ", guard ? "version " : "epoch ", value.number));
      }
    };
    check("pin", slot.pin, false);
    check("acknowledgment", slot.ack, false);
    check("guard", slot.own, true);
    check("help guard", slot.help, true);
    check("validator's guard", slot.look, true);
    check("listener's guard", slot.listen, true);
  }

  const detail::Mapping& mapping_;
  const detail::RegionView& view_;
  CheckReport& report_;
  std::map<Epoch, Version> versions_;
};

}  // namespace

bool CheckReport::damaged() const {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.severity == Finding::Severity::kDamage;
  });
}

absl::StatusOr<CheckReport> CheckRegion(const std::string& path) {
  CheckReport report;
  auto mapping = detail::Mapping::Open(path, /*read_only=*/true, /*check_words=*/false);
  if (absl::IsDataLoss(mapping.status())) {
    report.findings.push_back(
        {Finding::Severity::kDamage, "superblock", std::string(mapping.status().message())});
    return report;
  }
  if (!mapping.ok()) return mapping.status();
  Checker(**mapping, report).Run();
  return report;
}

}  // namespace epoch::inspect
