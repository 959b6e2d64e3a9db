# Reward plugins of dag-train, in C or C++. After find_package(DagReward):
#
#   dag_add_reward(NAME source...)   makes libNAME.so, which exports what dag-train looks for and nothing else, and
#                                    libNAME.so.json, from which dag-reward list tells what it is
#   DagReward_REWARD_DIR             is where dag-train finds plugins by name: the DESTINATION to install them to
#   DagReward::header                is the header alone, dag_reward.h
get_filename_component(DagReward_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(DagReward_REWARD_DIR "${DagReward_PREFIX}/lib/dag/rewards")
set(DagReward_EXPORTS "${CMAKE_CURRENT_LIST_DIR}/exports.map")

if(NOT TARGET DagReward::header)
    add_library(DagReward::header INTERFACE IMPORTED)
    set_target_properties(DagReward::header PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${DagReward_PREFIX}/include")
endif()

function(dag_add_reward name)
    add_library(${name} MODULE ${ARGN})
    set_target_properties(${name} PROPERTIES PREFIX lib C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    target_link_libraries(${name} PRIVATE DagReward::header)
    target_link_options(${name} PRIVATE "LINKER:--version-script=${DagReward_EXPORTS}")
    add_custom_command(
        TARGET ${name} POST_BUILD VERBATIM
        COMMAND "${DagReward_PREFIX}/bin/dag-reward" info "$<TARGET_FILE:${name}>" --json > "$<TARGET_FILE:${name}>.json")
endfunction()
