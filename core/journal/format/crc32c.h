// CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the CPU's instruction where there is one.
// Checked in tests/journal/format_test.cc against the RFC's vectors. No Debian library has it.
#ifndef EPOCH_CORE_JOURNAL_FORMAT_CRC32C_H_
#define EPOCH_CORE_JOURNAL_FORMAT_CRC32C_H_

#include <cstddef>
#include <cstdint>

namespace epoch::journal {

// The CRC of `data` appended to bytes whose CRC is `crc` (0: none).
std::uint32_t Crc32c(const void* data, std::size_t size, std::uint32_t crc = 0);

// The table-driven version, for machines without the instruction, and for the tests.
std::uint32_t Crc32cPortable(const void* data, std::size_t size, std::uint32_t crc = 0);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_FORMAT_CRC32C_H_
