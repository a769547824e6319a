// What most verbs include, compiled once. Files still include what they use.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "epoch/epoch.h"
