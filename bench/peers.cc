#include "bench/peers.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#ifdef EPOCH_BENCH_LMDB
#include <lmdb.h>
#endif
#ifdef EPOCH_BENCH_SQLITE
#include <sqlite3.h>
#endif
#ifdef EPOCH_BENCH_ROCKSDB
#include <rocksdb/c.h>
#include <rocksdb/version.h>
#endif

namespace epoch::bench {
namespace {

[[maybe_unused]] void Check(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "epoch_bench_commit: %s\n", what.c_str());
  std::abort();
}

#ifdef EPOCH_BENCH_LMDB
// A commit writes the changed pages and syncs them, then the meta page through a descriptor with
// O_DSYNC; with MDB_WRITEMAP both are stores into the map and an msync. MDB_NOSYNC and
// MDB_NOMETASYNC would be faster and lose the last commits.
class Lmdb final : public Peer {
 public:
  Lmdb(const std::string& directory, bool writemap) : writemap_(writemap) {
    std::filesystem::create_directories(directory);
    Call(mdb_env_create(&env_));
    Call(mdb_env_set_mapsize(env_, std::size_t{64} << 20));
    Call(mdb_env_open(env_, directory.c_str(), writemap ? MDB_WRITEMAP : 0, 0600));
    MDB_txn* txn = nullptr;
    Call(mdb_txn_begin(env_, nullptr, 0, &txn));
    Call(mdb_dbi_open(txn, nullptr, 0, &table_));
    Call(mdb_txn_commit(txn));
  }
  ~Lmdb() override { mdb_env_close(env_); }

  void Put(std::span<const std::byte> value) override {
    MDB_txn* txn = nullptr;
    Call(mdb_txn_begin(env_, nullptr, 0, &txn));
    char name[] = "state";
    MDB_val key{sizeof name, name};
    MDB_val data{value.size(), const_cast<std::byte*>(value.data())};
    Call(mdb_put(txn, table_, &key, &data, 0));
    Call(mdb_txn_commit(txn));
  }
  const char* name() const override { return writemap_ ? "LMDB (MDB_WRITEMAP)" : "LMDB"; }
  std::string settings() const override {
    return std::string(MDB_VERSION_STRING) + ", fully synchronous" +
           (writemap_ ? ", MDB_WRITEMAP" : ", without MDB_WRITEMAP");
  }

 private:
  static void Call(int result) { Check(result == 0, std::string("LMDB: ") + mdb_strerror(result)); }
  const bool writemap_;
  MDB_env* env_ = nullptr;
  MDB_dbi table_ = 0;
};
#endif

#ifdef EPOCH_BENCH_SQLITE
// One frame of 4,120 bytes in the write-ahead log per commit, and an fdatasync. EXCLUSIVE spares
// the shared-memory index and the locks. A checkpoint every 1,000 pages (the default) starts the
// log again from its beginning, so that after the first turn it is a file of fixed size, written
// over: as good as preallocated. More frames between checkpoints change only the tail.
class Sqlite final : public Peer {
 public:
  explicit Sqlite(const std::string& directory) {
    std::filesystem::create_directories(directory);
    const std::string file = directory + "/sqlite.db";
    Call(sqlite3_open_v2(file.c_str(), &db_,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                         nullptr));
    for (const char* statement :
         {"PRAGMA page_size=4096", "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL",
          "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=1000",
          "CREATE TABLE state (id INTEGER PRIMARY KEY, value BLOB)",
          "INSERT INTO state VALUES (1, x'00')"}) {
      Call(sqlite3_exec(db_, statement, nullptr, nullptr, nullptr));
    }
    Call(sqlite3_prepare_v3(db_, "UPDATE state SET value=? WHERE id=1", -1,
                            SQLITE_PREPARE_PERSISTENT, &put_, nullptr));
  }
  ~Sqlite() override {
    sqlite3_finalize(put_);
    sqlite3_close(db_);
  }

  void Put(std::span<const std::byte> value) override {
    Call(sqlite3_bind_blob(put_, 1, value.data(), static_cast<int>(value.size()), SQLITE_STATIC));
    Check(sqlite3_step(put_) == SQLITE_DONE, std::string("SQLite: ") + sqlite3_errmsg(db_));
    Call(sqlite3_reset(put_));
  }
  const char* name() const override { return "SQLite"; }
  std::string settings() const override {
    return std::string(SQLITE_VERSION) +
           ", WAL, synchronous=FULL, page_size=4096, locking_mode=EXCLUSIVE, "
           "wal_autocheckpoint=1000, log at its full size";
  }

 private:
  void Call(int result) {
    Check(result == SQLITE_OK, std::string("SQLite: ") + sqlite3_errmsg(db_));
  }
  sqlite3* db_ = nullptr;
  sqlite3_stmt* put_ = nullptr;
};
#endif

#ifdef EPOCH_BENCH_ROCKSDB
// A record in the write-ahead log per put, and an fdatasync. Logs are recycled, so that it writes
// over blocks that are allocated. It has no direct I/O for the log; tables use it.
class Rocks final : public Peer {
 public:
  explicit Rocks(const std::string& directory) {
    options_ = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options_, 1);
    rocksdb_options_set_write_buffer_size(options_, kBuffer);
    rocksdb_options_set_recycle_log_file_num(options_, 4);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options_, 1);
    rocksdb_options_set_compression(options_, rocksdb_no_compression);
    rocksdb_options_set_max_background_jobs(options_, 2);
    rocksdb_options_set_stats_dump_period_sec(options_, 0);
    rocksdb_options_set_stats_persist_period_sec(options_, 0);
    rocksdb_options_set_info_log_level(options_, 4);
    unsynced_ = rocksdb_writeoptions_create();
    synced_ = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(synced_, 1);
    char* error = nullptr;
    db_ = rocksdb_open(options_, directory.c_str(), &error);
    Good(error);
    // Through three memtables, so that there are old logs to recycle.
    const std::string bulk(64 << 10, 'x');
    for (std::size_t at = 0; at < 3 * kBuffer; at += bulk.size()) {
      rocksdb_put(db_, unsynced_, "bulk", 4, bulk.data(), bulk.size(), &error);
      Good(error);
    }
    rocksdb_flushoptions_t* const flush = rocksdb_flushoptions_create();
    rocksdb_flush(db_, flush, &error);
    Good(error);
    rocksdb_flushoptions_destroy(flush);
  }
  ~Rocks() override {
    rocksdb_close(db_);
    rocksdb_writeoptions_destroy(synced_);
    rocksdb_writeoptions_destroy(unsynced_);
    rocksdb_options_destroy(options_);
  }

  void Put(std::span<const std::byte> value) override {
    char* error = nullptr;
    rocksdb_put(db_, synced_, "state", 5, reinterpret_cast<const char*>(value.data()), value.size(),
                &error);
    Good(error);
  }
  const char* name() const override { return "RocksDB"; }
  std::string settings() const override {
    return std::to_string(ROCKSDB_MAJOR) + "." + std::to_string(ROCKSDB_MINOR) + "." +
           std::to_string(ROCKSDB_PATCH) +
           ", WriteOptions.sync, recycle_log_file_num=4, write_buffer_size=16 MiB, direct I/O for "
           "tables, no compression";
  }

 private:
  static constexpr std::size_t kBuffer = std::size_t{16} << 20;
  static void Good(const char* error) {
    Check(error == nullptr, std::string("RocksDB: ") + (error == nullptr ? "" : error));
  }
  rocksdb_options_t* options_ = nullptr;
  rocksdb_writeoptions_t* unsynced_ = nullptr;
  rocksdb_writeoptions_t* synced_ = nullptr;
  rocksdb_t* db_ = nullptr;
};
#endif

}  // namespace

std::vector<std::unique_ptr<Peer>> OpenPeers([[maybe_unused]] const std::string& directory,
                                             std::size_t value_bytes) {
  std::vector<std::unique_ptr<Peer>> peers;
#ifdef EPOCH_BENCH_LMDB
  peers.push_back(std::make_unique<Lmdb>(directory + "/lmdb", false));
  peers.push_back(std::make_unique<Lmdb>(directory + "/lmdb-writemap", true));
#endif
#ifdef EPOCH_BENCH_SQLITE
  peers.push_back(std::make_unique<Sqlite>(directory + "/sqlite"));
#endif
#ifdef EPOCH_BENCH_ROCKSDB
  std::filesystem::create_directories(directory);
  peers.push_back(std::make_unique<Rocks>(directory + "/rocksdb"));
#endif
  // More than SQLite needs to come back to the beginning of its log.
  std::vector<std::byte> value(value_bytes, std::byte{1});
  for (const std::unique_ptr<Peer>& peer : peers) {
    for (int i = 0; i < 1'100; ++i) {
      std::memcpy(value.data(), &i, sizeof i);  // the same again is not written by all of them
      peer->Put(value);
    }
  }
  return peers;
}

}  // namespace epoch::bench
