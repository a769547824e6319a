// What rounds of samples say: medians, ratios, how sure they are, and whether a target is reached.
#ifndef EPOCH_BENCH_REPORT_H_
#define EPOCH_BENCH_REPORT_H_

#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/part.h"

namespace epoch::bench {

// A figure, and the interval that holds the true one in 95 of 100 cases.
struct Figure {
  double value = 0, low = 0, high = 0;
};

struct Target {
  enum class Kind { kAtMost, kAtLeast } kind;
  double limit;
};

// One line of the result.
struct Line {
  std::string name;  // for the JSON: "single.64.median_ratio"
  std::string what;  // for people
  Figure figure;
  std::string unit;  // "x", "us", "/s", "GB/s"
  std::optional<Target> target;
  std::string beside;  // what it was made of
  bool reached() const {
    return !target.has_value() ||
           (target->kind == Target::Kind::kAtMost ? figure.value <= target->limit
                                                  : figure.value >= target->limit);
  }
  // Whether the whole interval is on the figure's side of the limit.
  bool certain() const {
    return !target.has_value() || ((figure.low <= target->limit) == (figure.high <= target->limit));
  }
};

// All samples, by series and round.
class Results {
 public:
  void Add(const Samples& samples);

  bool Has(const std::string& series) const { return rounds_.count(series) != 0; }
  // Of all samples of all rounds together.
  double Quantile(const std::string& series, double share) const;
  double Median(const std::string& series) const { return Quantile(series, 0.5); }
  // The one with the lowest median. Empty if there is none of them.
  std::string Best(const std::vector<std::string>& series) const;

  // The median of the rounds' medians, times `scale`; the interval is that of order statistics.
  Figure OfRounds(const std::string& series, double scale = 1) const;
  // The median of the rounds' ratios of medians.
  Figure RatioOfRounds(const std::string& above, const std::string& below) const;
  // Of all samples together; the interval is a bootstrap's that draws whole rounds.
  Figure OfAll(const std::string& series, double share, double scale = 1) const;
  Figure RatioOfAll(const std::string& above, double share_above, const std::string& below,
                    double share_below) const;

  nlohmann::ordered_json ToJson() const;

 private:
  const std::vector<std::vector<double>>& At(const std::string& series) const;

  std::map<std::string, std::vector<std::vector<double>>> rounds_;  // each sorted
};

void Print(const std::vector<Line>& lines);
nlohmann::ordered_json ToJson(const Line& line);

}  // namespace epoch::bench

#endif  // EPOCH_BENCH_REPORT_H_
