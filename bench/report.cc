#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>

namespace epoch::bench {
namespace {

double SortedQuantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
  return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
}

// The median, and the two order statistics between which it lies with 95 %: counted from both ends,
// so that a binomial(n, 1/2) falls outside in less than 5 %.
Figure MedianFigure(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  double tail = 0;
  double term = std::pow(0.5, static_cast<double>(n));  // P(X = k), from k = 0
  std::size_t k = 0;
  for (; k < n / 2; ++k) {
    if (tail + term > 0.025) break;
    tail += term;
    term *= static_cast<double>(n - k) / static_cast<double>(k + 1);
  }
  const std::size_t low = k == 0 ? 0 : k - 1;
  const double middle = (values[(n - 1) / 2] + values[n / 2]) / 2;
  return {middle, values[low], values[n - 1 - low]};
}

using Rounds = std::vector<std::vector<double>>;

// A quantile of many rounds together, some of them counted more than once, without sorting them
// anew each time: every sample once, in order, with its round.
class Weighted {
 public:
  explicit Weighted(const Rounds& rounds) {
    for (std::size_t round = 0; round < rounds.size(); ++round) {
      counts_.push_back(rounds[round].size());
      for (double value : rounds[round]) all_.push_back({value, static_cast<std::uint32_t>(round)});
    }
    std::sort(all_.begin(), all_.end(), [](auto& a, auto& b) { return a.value < b.value; });
  }
  std::size_t rounds() const { return counts_.size(); }

  double Quantile(double share, const std::vector<std::uint32_t>& weights) const {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) total += counts_[i] * weights[i];
    if (total == 0) return std::numeric_limits<double>::quiet_NaN();
    // From the nearer end: what is asked for is often near the top.
    const auto at = static_cast<std::uint64_t>(share * static_cast<double>(total - 1));
    std::uint64_t above = total - at;
    for (auto sample = all_.rbegin(); sample != all_.rend(); ++sample) {
      const std::uint64_t weight = weights[sample->round];
      if (above <= weight) return sample->value;
      above -= weight;
    }
    return all_.front().value;
  }

 private:
  struct Sample {
    double value;
    std::uint32_t round;
  };
  std::vector<std::uint64_t> counts_;  // of samples, by round
  std::vector<Sample> all_;
};

// 400 draws of as many rounds as there are, with replacement.
Figure Bootstrap(std::size_t rounds,
                 const std::function<double(const std::vector<std::uint32_t>&)>& statistic) {
  Figure figure;
  if (rounds == 0) return figure;
  figure.value = statistic(std::vector<std::uint32_t>(rounds, 1));
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::size_t> any(0, rounds - 1);
  std::vector<double> drawn;
  for (int draw = 0; draw < 400; ++draw) {
    std::vector<std::uint32_t> weights(rounds, 0);
    for (std::size_t i = 0; i < rounds; ++i) ++weights[any(random)];
    const double value = statistic(weights);
    if (!std::isnan(value)) drawn.push_back(value);
  }
  std::sort(drawn.begin(), drawn.end());
  figure.low = SortedQuantile(drawn, 0.025);
  figure.high = SortedQuantile(drawn, 0.975);
  return figure;
}

std::string Number(double value) {
  char text[32];
  const double size = std::fabs(value);
  if (size >= 10'000) {
    std::snprintf(text, sizeof text, "%.0fk", value / 1000);
  } else {
    std::snprintf(text, sizeof text, "%.*f", size >= 1000 ? 0 : size >= 100 ? 1 : 2, value);
  }
  return text;
}

}  // namespace

void Results::Add(const Samples& samples) {
  for (const auto& [series, values] : samples) {
    rounds_[series].push_back(values);
    std::sort(rounds_[series].back().begin(), rounds_[series].back().end());
  }
}

const Rounds& Results::At(const std::string& series) const {
  static const Rounds none;
  const auto found = rounds_.find(series);
  return found == rounds_.end() ? none : found->second;
}

double Results::Quantile(const std::string& series, double share) const {
  const Weighted all(At(series));
  return all.Quantile(share, std::vector<std::uint32_t>(all.rounds(), 1));
}

std::string Results::Best(const std::vector<std::string>& series) const {
  std::string best;
  double lowest = std::numeric_limits<double>::infinity();
  for (const std::string& one : series) {
    if (!Has(one) || Median(one) >= lowest) continue;
    lowest = Median(one);
    best = one;
  }
  return best;
}

Figure Results::OfRounds(const std::string& series, double scale) const {
  std::vector<double> medians;
  for (const std::vector<double>& round : At(series)) {
    medians.push_back(SortedQuantile(round, 0.5) * scale);
  }
  return MedianFigure(medians);
}

Figure Results::RatioOfRounds(const std::string& above, const std::string& below) const {
  const Rounds& a = At(above);
  const Rounds& b = At(below);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    ratios.push_back(SortedQuantile(a[i], 0.5) / SortedQuantile(b[i], 0.5));
  }
  return MedianFigure(ratios);
}

Figure Results::OfAll(const std::string& series, double share, double scale) const {
  const Weighted all(At(series));
  return Bootstrap(all.rounds(), [&](const std::vector<std::uint32_t>& weights) {
    return all.Quantile(share, weights) * scale;
  });
}

Figure Results::RatioOfAll(const std::string& above, double share_above, const std::string& below,
                           double share_below) const {
  const Weighted a(At(above));
  const Weighted b(At(below));
  if (a.rounds() != b.rounds()) return {};
  return Bootstrap(a.rounds(), [&](const std::vector<std::uint32_t>& weights) {
    return a.Quantile(share_above, weights) / b.Quantile(share_below, weights);
  });
}

nlohmann::ordered_json Results::ToJson() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [series, rounds] : rounds_) {
    const Weighted all(rounds);
    const std::vector<std::uint32_t> once(rounds.size(), 1);
    nlohmann::ordered_json medians = nlohmann::ordered_json::array();
    std::size_t count = 0;
    for (const std::vector<double>& round : rounds) {
      count += round.size();
      medians.push_back(SortedQuantile(round, 0.5));
    }
    json[series] = {{"samples", count},
                    {"median", all.Quantile(0.5, once)},
                    {"p99", all.Quantile(0.99, once)},
                    {"p999", all.Quantile(0.999, once)},
                    {"max", all.Quantile(1, once)},
                    {"round_medians", medians}};
  }
  return json;
}

void Print(const std::vector<Line>& lines) {
  for (const Line& line : lines) {
    char interval[64];
    std::snprintf(interval, sizeof interval, "[%s, %s]", Number(line.figure.low).c_str(),
                  Number(line.figure.high).c_str());
    std::printf("%-50s %9s %-4s %-18s", line.what.c_str(), Number(line.figure.value).c_str(),
                line.unit.c_str(), interval);
    if (line.target.has_value()) {
      std::printf(" %s %-6s %-9s", line.target->kind == Target::Kind::kAtMost ? "<=" : ">=",
                  Number(line.target->limit).c_str(),
                  line.reached() ? (line.certain() ? "reached" : "reached?")
                                 : (line.certain() ? "MISSED" : "MISSED?"));
    }
    std::printf("%s%s\n", line.beside.empty() ? "" : "  ", line.beside.c_str());
  }
}

nlohmann::ordered_json ToJson(const Line& line) {
  nlohmann::ordered_json json = {{"name", line.name},
                                 {"what", line.what},
                                 {"value", line.figure.value},
                                 {"ci95", {line.figure.low, line.figure.high}},
                                 {"unit", line.unit}};
  if (line.target.has_value()) {
    json["target"] = {
        {line.target->kind == Target::Kind::kAtMost ? "at_most" : "at_least", line.target->limit}};
    json["reached"] = line.reached();
    json["certain"] = line.certain();
  }
  if (!line.beside.empty()) json["beside"] = line.beside;
  return json;
}

}  // namespace epoch::bench
