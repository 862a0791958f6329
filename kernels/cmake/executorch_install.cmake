# ExecuTorch as its own CMake build installs it (for Android's bionic), under the names that the wheel uses.
# Not tried here: no NDK was at hand.
find_package(executorch REQUIRED CONFIG PATHS "${EXECUTORCH_ROOT}/lib/cmake/ExecuTorch" NO_DEFAULT_PATH
             NO_CMAKE_FIND_ROOT_PATH)

function(hilnas_alias name)
  add_library(executorch::${name} INTERFACE IMPORTED GLOBAL)
  foreach(target IN LISTS ARGN)
    if(NOT TARGET ${target})
      message(FATAL_ERROR "EXECUTORCH_ROOT='${EXECUTORCH_ROOT}' was built without ${target}")
    endif()
    target_link_libraries(executorch::${name} INTERFACE ${target})
  endforeach()
endfunction()

# Whole archives: kernels and backends register themselves from static initialisers.
function(hilnas_alias_whole name target)
  hilnas_alias(${name} ${target})
  set_target_properties(executorch::${name} PROPERTIES INTERFACE_LINK_LIBRARIES
                        "-Wl,--whole-archive;${target};-Wl,--no-whole-archive")
endfunction()

hilnas_alias(runtime executorch extension_module_static extension_data_loader extension_tensor)
hilnas_alias(threadpool extension_threadpool)
hilnas_alias_whole(kernels_optimized optimized_native_cpu_ops_lib)
hilnas_alias_whole(kernels_quantized quantized_ops_lib)
hilnas_alias_whole(backend_xnnpack xnnpack_backend)
