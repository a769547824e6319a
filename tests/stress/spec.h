// What the driver tells the processes of a round: a file beside their logs.
#ifndef EPOCH_TESTS_STRESS_SPEC_H_
#define EPOCH_TESTS_STRESS_SPEC_H_

#include <cstdint>
#include <fstream>
#include <string>

#include "epoch/options.h"
#include "nlohmann/json.hpp"

namespace epoch::stress {

struct Spec {
  std::string region;
  std::uint64_t seed = 0;
  unsigned asked_percent = 50;  // of the transitions: how many are voted on or fenced
  bool crowded = false;         // so many that all depends on voters that look
  RegionOptions options{};

  static std::string PathIn(const std::string& directory) { return directory + "/spec.json"; }

  void Save(const std::string& directory) const {
    std::ofstream(PathIn(directory)) << nlohmann::json{
        {"region", region},
        {"seed", seed},
        {"asked_percent", asked_percent},
        {"crowded", crowded},
        {"state_bytes", options.state_bytes},
        {"participants", options.participants},
        {"versions", options.versions},
        {"journal", options.journal},
        {"latest", options.history == History::kLatest},
        {"segment_bytes", options.segment_bytes},
        {"retain_segments",
         options.retain_segments}}.dump(1);
  }
  static Spec Load(const std::string& directory) {
    std::ifstream file(PathIn(directory));
    const nlohmann::json json = nlohmann::json::parse(file);
    Spec spec;
    json.at("region").get_to(spec.region);
    json.at("seed").get_to(spec.seed);
    json.at("asked_percent").get_to(spec.asked_percent);
    json.at("crowded").get_to(spec.crowded);
    json.at("state_bytes").get_to(spec.options.state_bytes);
    json.at("participants").get_to(spec.options.participants);
    json.at("versions").get_to(spec.options.versions);
    json.at("journal").get_to(spec.options.journal);
    spec.options.history = json.at("latest").get<bool>() ? History::kLatest : History::kAll;
    json.at("segment_bytes").get_to(spec.options.segment_bytes);
    json.at("retain_segments").get_to(spec.options.retain_segments);
    return spec;
  }
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_SPEC_H_
