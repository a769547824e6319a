include(CMakeFindDependencyMacro)
find_dependency(absl)
find_dependency(Boost)
find_dependency(Threads)
find_dependency(PkgConfig)
# What epoch::journal was linked against, under the names that it knows.
pkg_check_modules(uring REQUIRED QUIET IMPORTED_TARGET liburing)
pkg_check_modules(xxhash REQUIRED QUIET IMPORTED_TARGET libxxhash)
include(${CMAKE_CURRENT_LIST_DIR}/epoch-targets.cmake)
