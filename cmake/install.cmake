# `cmake --install`: headers, the compiled journal, and what find_package(epoch) needs.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(EPOCH_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/epoch)
set_target_properties(epoch PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
  "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>;$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
set_target_properties(epoch_journal PROPERTIES
  EXPORT_NAME journal
  INTERFACE_INCLUDE_DIRECTORIES "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")

target_include_directories(epoch_c INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

install(TARGETS epoch epoch_build epoch_journal epoch_c EXPORT epoch
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
# For programs in C: cc $(pkg-config --cflags --libs epoch). It finds the rest from where it lies itself.
file(RELATIVE_PATH EPOCH_FROM_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/epoch.pc.in ${PROJECT_BINARY_DIR}/epoch.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/epoch.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/epoch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT epoch NAMESPACE epoch:: DESTINATION ${EPOCH_CONFIG_DIR} FILE epoch-targets.cmake)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/epoch-config.cmake DESTINATION ${EPOCH_CONFIG_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/epoch-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/epoch-config-version.cmake DESTINATION ${EPOCH_CONFIG_DIR})
