// What of a foreign text may be shown: names, reasons, paths come from other processes and other
// users, and end in messages, in logs and on terminals.
//
// Shown are the characters of UTF-8, as they are. Not shown are: control characters (C0, DEL, C1),
// with which a text drives a terminal or forges a line; characters that reorder what stands around
// them, or that nobody sees (bidirectional controls, invisible operators, tags); and bytes that are
// no UTF-8.
#ifndef EPOCH_DETAIL_PLATFORM_PRINTABLE_H_
#define EPOCH_DETAIL_PLATFORM_PRINTABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "epoch/detail/platform/needs.h"

namespace epoch::detail {

struct DecodedCharacter {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: no UTF-8 begins here
};

// The character that `text` begins with. Overlong forms, surrogates and what lies beyond U+10FFFF
// are no characters.
constexpr DecodedCharacter DecodeUtf8(std::string_view text) noexcept {
  if (text.empty()) return {};
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return {};
  char32_t value = lead & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3fu);
  }
  const char32_t least = size == 2 ? 0x80 : size == 3 ? 0x800 : 0x10000;
  if (value < least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, size};
}

constexpr bool IsShown(char32_t c) noexcept {
  const auto within = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  return !(c < 0x20 || within(0x7f, 0x9f) || c == 0xad || c == 0x61c || c == 0x180e ||
           c == 0x200b || c == 0x200e || c == 0x200f || within(0x2028, 0x202e) ||
           within(0x2060, 0x206f) || c == 0xfeff || within(0xfff0, 0xfffb) ||
           (c & 0xfffe) == 0xfffe || within(0xfdd0, 0xfdef) || within(0xe0000, 0xe0fff));
}

// How many bytes at the beginning of `text` are one character that may be shown; 0: the first byte
// may not.
constexpr std::size_t ShownBytes(std::string_view text) noexcept {
  const DecodedCharacter c = DecodeUtf8(text);
  return c.bytes != 0 && IsShown(c.value) ? c.bytes : 0;
}

// `text` with `stand_in` for each byte that may not be shown.
inline std::string Shown(std::string_view text, char stand_in) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t bytes = ShownBytes(text);
    if (bytes == 0) {
      shown += stand_in;
    } else {
      shown.append(text.data(), bytes);
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return shown;
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_PRINTABLE_H_
