# `cmake --install`: headers, the compiled journal, and what find_package(epoch) needs.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(EPOCH_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/epoch)
set_target_properties(epoch PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
  "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>;$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
set_target_properties(epoch_journal PROPERTIES
  EXPORT_NAME journal
  INTERFACE_INCLUDE_DIRECTORIES "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")

install(TARGETS epoch epoch_build epoch_journal EXPORT epoch
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/epoch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT epoch NAMESPACE epoch:: DESTINATION ${EPOCH_CONFIG_DIR} FILE epoch-targets.cmake)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/epoch-config.cmake DESTINATION ${EPOCH_CONFIG_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/epoch-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/epoch-config-version.cmake DESTINATION ${EPOCH_CONFIG_DIR})
