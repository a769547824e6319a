# `cmake --install`: headers, the compiled journal, the C library, and what find_package and pkg-config
# need. What depends on what is told once, in epoch-config.cmake and the two .pc files.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(EPOCH_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/epoch)
set_target_properties(epoch PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
  "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>;$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
set_target_properties(epoch_journal PROPERTIES
  EXPORT_NAME journal
  INTERFACE_INCLUDE_DIRECTORIES "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")
target_include_directories(epoch_c INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

# A file for each component, so that a program needs no more than what it uses.
foreach(component headers journal c)
  set(target epoch_${component})
  if(component STREQUAL "headers")
    set(target epoch)
  endif()
  install(TARGETS ${target} EXPORT epoch-${component}
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT epoch-${component} NAMESPACE epoch:: DESTINATION ${EPOCH_CONFIG_DIR}
          FILE epoch-${component}.cmake)
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/epoch DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_SOURCE_DIR}/cmake/epoch-config.cmake DESTINATION ${EPOCH_CONFIG_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/epoch-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/epoch-config-version.cmake DESTINATION ${EPOCH_CONFIG_DIR})

# They find the rest from where they lie themselves.
file(RELATIVE_PATH EPOCH_FROM_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
foreach(name epoch epoch-journal)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
