#include "tools/epochctl/past_epoch.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "tools/epochctl/context.h"

namespace epoch::ctl {

void AddPastEpoch(nlohmann::ordered_json& json, const PastEpoch& past) {
  json["epoch"] = past.epoch;
  json["token"] = past.token;
  json["bytes"] = past.state.size();
  json["digest"] = fmt::format("{:016x}", past.digest);
  json["proposer"] = nullptr;
  if (past.proposer.has_value()) {
    json["proposer"] = {{"slot", past.proposer->slot}, {"generation", past.proposer->generation}};
  }
  json["ballot"] =
      past.ballot == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(past.ballot);
  json["forced"] = past.forced;
  json["segment"] = past.segment;
  json["block"] = past.block;
  json["state_base64"] =
      absl::Base64Escape({reinterpret_cast<const char*>(past.state.data()), past.state.size()});
}

std::string PastEpochText(const PastEpoch& past) {
  Table facts("<<");
  facts.Row({"epoch", fmt::format("{}", past.epoch)});
  facts.Row({"state", fmt::format("{}, digest {:016x}, token {}", HumanBytes(past.state.size()),
                                  past.digest, past.token)});
  facts.Row({"proposer", past.proposer.has_value()
                             ? fmt::format("slot {}, generation {}", past.proposer->slot,
                                           past.proposer->generation)
                             : "not known: a segment begins with this state"});
  facts.Row({"vote", past.ballot == 0 ? "none"
                                      : fmt::format("ballot {}, committed{}", past.ballot,
                                                    past.forced ? ", forced" : "")});
  facts.Row({"place", fmt::format("segment {}, block {}", past.segment, past.block)});
  return facts.Text();
}

}  // namespace epoch::ctl
