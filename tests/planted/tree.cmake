# Makes TREE what the files in LIST (below ROOT) are with the patches in PATCHES applied, in the order
# of their names. A file whose content stays the same keeps its time. Fails by name if a patch does not
# apply any more, or asks for another name than its own.
#
#   cmake -DROOT= -DLIST= -DPATCHES= -DTREE= -DPATCH= -P tree.cmake
cmake_minimum_required(VERSION 3.25)

set(fresh ${TREE}.new)
file(REMOVE_RECURSE ${fresh})
file(STRINGS ${LIST} names)
foreach(name ${names})
  get_filename_component(folder ${fresh}/${name} DIRECTORY)
  file(COPY ${ROOT}/${name} DESTINATION ${folder})
endforeach()

file(GLOB patches ${PATCHES}/*.patch)
list(SORT patches)
foreach(patch ${patches})
  get_filename_component(name ${patch} NAME_WE)
  file(READ ${patch} text)
  string(FIND "${text}" "Planted(\"${name}\")" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${patch} does not ask for Planted(\"${name}\")")
  endif()
  # A line of context has to be there on either side.
  execute_process(COMMAND ${PATCH} -s -f -p1 -F1 --no-backup-if-mismatch -d ${fresh} -i ${patch}
                  RESULT_VARIABLE code OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${patch} does not apply any more, after those in front of it:\n${said}")
  endif()
endforeach()

foreach(name ${names})
  get_filename_component(folder ${TREE}/${name} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  file(COPY_FILE ${fresh}/${name} ${TREE}/${name} ONLY_IF_DIFFERENT)
endforeach()
file(GLOB_RECURSE there RELATIVE ${TREE} ${TREE}/*)
list(REMOVE_ITEM there ${names})
foreach(name ${there})
  file(REMOVE ${TREE}/${name})
endforeach()
file(REMOVE_RECURSE ${fresh})
